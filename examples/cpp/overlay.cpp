// A filter for video pipes: YUV4MPEG2 in, the same video with red where people would look out.
//
//     ffmpeg -i clip.mp4 -pix_fmt yuv420p -f yuv4mpegpipe - | overlay lite | ffplay -
//
// It keeps a frame until its map is there, less than a second, and takes all the time it needs: no frame is dropped.
#include <dtfsal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Close {
    void operator()(dtfsal_predictor *predictor) const { dtfsal_close(predictor); }
};
using Predictor = std::unique_ptr<dtfsal_predictor, Close>;

struct Video {
    int width = 0, height = 0;
    double rate = 25;

    size_t luma() const { return static_cast<size_t>(width) * static_cast<size_t>(height); }
    size_t chroma_width() const { return static_cast<size_t>(width + 1) / 2; }
    size_t chroma() const { return chroma_width() * (static_cast<size_t>(height + 1) / 2); }
};

std::string line_from(FILE *file) {
    std::string line;
    for (int c; (c = std::fgetc(file)) != EOF && c != '\n' && line.size() < 1000;) line += static_cast<char>(c);
    return line;
}

// Such as "YUV4MPEG2 W1280 H720 F25:1 C420jpeg".
Video read_header(const std::string &line) {
    std::istringstream words(line);
    std::string word;
    if (!(words >> word) || word != "YUV4MPEG2") throw std::runtime_error("stdin is not a YUV4MPEG2 stream");
    Video video;
    while (words >> word) {
        int over = 0, under = 0;
        if (word[0] == 'W') video.width = std::atoi(word.c_str() + 1);
        if (word[0] == 'H') video.height = std::atoi(word.c_str() + 1);
        if (word[0] == 'F' && std::sscanf(word.c_str(), "F%d:%d", &over, &under) == 2 && over > 0 && under > 0)
            video.rate = static_cast<double>(over) / under;
        if (word[0] == 'C' && (word.rfind("C420", 0) != 0 || word.find('p') == 4))
            throw std::runtime_error("the stream must have 8 bits and 4:2:0 colours: add -pix_fmt yuv420p");
    }
    if (video.width < 1 || video.height < 1 || video.width > 16384 || video.height > 16384)
        throw std::runtime_error("the stream has no size that can be");
    return video;
}

void check(dtfsal_status status, dtfsal_predictor *predictor) {
    if (status >= 0) return;
    char message[512];
    dtfsal_message(predictor, message, sizeof message);
    throw std::runtime_error(message);
}

// Colours go to red as far as the map says, and brightness stays.
void redden(const Video &video, const std::vector<float> &map, std::vector<unsigned char> &picture) {
    for (int row = 0; row < video.height; row += 2)
        for (int column = 0; column < video.width; column += 2) {
            const float share = map[static_cast<size_t>(row) * static_cast<size_t>(video.width) + static_cast<size_t>(column)];
            unsigned char *blue = picture.data() + video.luma() + static_cast<size_t>(row / 2) * video.chroma_width() + column / 2;
            unsigned char *red = blue + video.chroma();
            *blue = static_cast<unsigned char>(static_cast<float>(*blue) * (1 - share) + 100 * share);
            *red = static_cast<unsigned char>(static_cast<float>(*red) * (1 - share) + 240 * share);
        }
}

void run(const char *engine) {
    const std::string header = line_from(stdin);
    const Video video = read_header(header);

    char message[512];
    dtfsal_predictor *opened = nullptr;
    dtfsal_options options = DTFSAL_OPTIONS_INIT;
    options.frame_rate_hz = video.rate;
    options.use_sound = 0;
    if (dtfsal_open(engine, &options, &opened, message, sizeof message) != DTFSAL_OK) throw std::runtime_error(message);
    const Predictor predictor(opened);

    std::deque<std::vector<unsigned char>> waiting;
    std::vector<float> values(video.luma());
    const auto show_all = [&] {
        dtfsal_map map = DTFSAL_MAP_INIT;
        map.width = video.width, map.height = video.height, map.data = values.data();
        dtfsal_status status;
        while ((status = dtfsal_poll(predictor.get(), &map)) == DTFSAL_OK) {
            auto &picture = waiting.front();
            redden(video, values, picture);
            std::fputs("FRAME\n", stdout);
            if (std::fwrite(picture.data(), 1, picture.size(), stdout) != picture.size())
                throw std::runtime_error("stdout cannot be written to");
            waiting.pop_front();
        }
        check(status, predictor.get());
    };

    std::printf("%s\n", header.c_str());
    dtfsal_frame frame = DTFSAL_FRAME_INIT;
    frame.format = DTFSAL_I420, frame.width = video.width, frame.height = video.height;
    frame.matrix = video.height < 720 ? DTFSAL_BT601 : DTFSAL_BT709;
    for (long number = 0; line_from(stdin).rfind("FRAME", 0) == 0; ++number) {
        std::vector<unsigned char> picture(video.luma() + 2 * video.chroma());
        if (std::fread(picture.data(), 1, picture.size(), stdin) != picture.size()) break;
        frame.planes[0] = picture.data(), frame.pitches[0] = video.width;
        frame.planes[1] = picture.data() + video.luma();
        frame.planes[2] = frame.planes[1] + video.chroma();
        frame.pitches[1] = frame.pitches[2] = static_cast<int64_t>(video.chroma_width());
        frame.pts_seconds = static_cast<double>(number) / video.rate;
        check(dtfsal_push_frame(predictor.get(), &frame), predictor.get());
        waiting.push_back(std::move(picture));
        show_all();
    }
    check(dtfsal_finish(predictor.get()), predictor.get());
    show_all();
}

}  // namespace

int main(int count, char **words) {
    if (count != 2) return std::cerr << "usage: overlay ENGINE < video.y4m > overlay.y4m\n", 2;
    try {
        run(words[1]);
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "overlay: " << error.what() << "\n";
        return 1;
    }
}
