// A camera, or a file at its own pace, with the map over it: OpenCV draws, one thread looks and one predicts.
//
//     opencv_camera lite              the first camera, in a window; Escape ends it
//     opencv_camera lite clip.mp4 overlay.avi        a file into a file, as fast as it goes
#include <dtfsal.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <mutex>
#include <opencv2/highgui.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#include <stdexcept>
#include <thread>

namespace {

struct Close {
    void operator()(dtfsal_predictor *predictor) const { dtfsal_close(predictor); }
};
using Predictor = std::unique_ptr<dtfsal_predictor, Close>;

void check(dtfsal_status status, dtfsal_predictor *predictor) {
    if (status >= 0) return;
    char message[512];
    dtfsal_message(predictor, message, sizeof message);
    throw std::runtime_error(message);
}

Predictor open(const char *engine, double rate, bool live) {
    char message[512];
    dtfsal_predictor *predictor = nullptr;
    dtfsal_options options = DTFSAL_OPTIONS_INIT;
    options.frame_rate_hz = rate;
    options.use_sound = 0;
    if (live) options.delay_seconds = 0, options.max_ready = 1;  // maps of the newest frame; what is late is dropped
    if (dtfsal_open(engine, &options, &predictor, message, sizeof message) != DTFSAL_OK) throw std::runtime_error(message);
    return Predictor(predictor);
}

void push(dtfsal_predictor *predictor, const cv::Mat &bgr, double seconds) {
    dtfsal_frame frame = DTFSAL_FRAME_INIT;
    frame.format = DTFSAL_BGR24, frame.width = bgr.cols, frame.height = bgr.rows;
    frame.planes[0] = bgr.data, frame.pitches[0] = static_cast<int64_t>(bgr.step);
    frame.pts_seconds = seconds;
    check(dtfsal_push_frame(predictor, &frame), predictor);
}

// The next map at the picture's size, if one is ready.
bool poll(dtfsal_predictor *predictor, cv::Size size, cv::Mat &values) {
    values.create(size, CV_32F);
    dtfsal_map map = DTFSAL_MAP_INIT;
    map.width = size.width, map.height = size.height, map.data = values.ptr<float>();
    const dtfsal_status status = dtfsal_poll(predictor, &map);
    check(status, predictor);
    return status == DTFSAL_OK;
}

cv::Mat overlaid(const cv::Mat &bgr, const cv::Mat &values) {
    cv::Mat levels, colours, result;
    values.convertTo(levels, CV_8U, 255);
    cv::applyColorMap(levels, colours, cv::COLORMAP_JET);
    cv::addWeighted(bgr, 0.6, colours, 0.4, 0, result);
    return result;
}

void watch_camera(const char *engine) {
    cv::VideoCapture camera(0);
    if (!camera.isOpened()) throw std::runtime_error("there is no camera 0; name a file instead");
    const double rate = camera.get(cv::CAP_PROP_FPS);
    const Predictor predictor = open(engine, rate > 0 ? rate : 30, true);
    cv::Mat picture, newest, values;
    if (!camera.read(picture)) throw std::runtime_error("the camera gives no picture");
    std::mutex guard;
    std::atomic<bool> stop{false};
    std::string problem;
    std::thread engine_thread([&, size = picture.size()] {
        cv::Mat mine;
        try {
            while (!stop) {
                if (poll(predictor.get(), size, mine)) {
                    const std::lock_guard<std::mutex> lock(guard);
                    cv::swap(mine, newest);
                } else {
                    std::this_thread::sleep_for(std::chrono::milliseconds(2));
                }
            }
        } catch (const std::exception &error) {
            const std::lock_guard<std::mutex> lock(guard);
            problem = error.what();
            stop = true;
        }
    });
    const int64 start = cv::getTickCount();
    while (!stop && camera.read(picture) && cv::waitKey(1) != 27) {
        push(predictor.get(), picture, static_cast<double>(cv::getTickCount() - start) / cv::getTickFrequency());
        {
            const std::lock_guard<std::mutex> lock(guard);
            newest.copyTo(values);
        }
        cv::imshow("dtfsal", values.empty() ? picture : overlaid(picture, values));
    }
    stop = true;
    engine_thread.join();
    if (!problem.empty()) throw std::runtime_error(problem);
}

void convert_file(const char *engine, const char *source, const char *target) {
    cv::VideoCapture file(source), again(source);
    if (!file.isOpened() || !again.isOpened()) throw std::runtime_error(std::string(source) + " cannot be read as a video");
    const double rate = file.get(cv::CAP_PROP_FPS) > 0 ? file.get(cv::CAP_PROP_FPS) : 25;
    const Predictor predictor = open(engine, rate, false);
    cv::Mat picture, values;
    cv::VideoWriter writer;
    cv::Size size;
    const auto write_all = [&] {
        while (poll(predictor.get(), size, values) && again.read(picture)) {
            if (!writer.isOpened() && !writer.open(target, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), rate, size))
                throw std::runtime_error(std::string(target) + " cannot be written");
            writer.write(overlaid(picture, values));
        }
    };
    cv::Mat frame;
    long number = 0;
    for (; file.read(frame); ++number) {
        size = frame.size();
        push(predictor.get(), frame, static_cast<double>(number) / rate);
        write_all();
    }
    if (number == 0) throw std::runtime_error(std::string(source) + " has no frame that can be read");
    check(dtfsal_finish(predictor.get()), predictor.get());
    write_all();
}

}  // namespace

int main(int count, char **words) {
    if (count != 2 && count != 4) return std::cerr << "usage: opencv_camera ENGINE [VIDEO OVERLAY.avi]\n", 2;
    try {
        if (count == 2) watch_camera(words[1]);
        else convert_file(words[1], words[2], words[3]);
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "opencv_camera: " << error.what() << "\n";
        return 1;
    }
}
