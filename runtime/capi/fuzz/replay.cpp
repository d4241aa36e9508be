// Runs a fuzzer's function where there is no libFuzzer: on files, and on random changes of them.
//
//     fuzz_manifest [RUNS [FILE...]]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **words) {
    const long runs = count > 1 ? std::atol(words[1]) : 10000;
    std::vector<std::vector<uint8_t>> seeds;
    for (int index = 2; index < count; ++index) {
        std::ifstream stream(words[index], std::ios::binary);
        if (!stream) return std::fprintf(stderr, "%s cannot be read\n", words[index]), 1;
        seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
        LLVMFuzzerTestOneInput(seeds.back().data(), seeds.back().size());
    }
    std::mt19937 random(20240229);
    for (long run = 0; run < runs; ++run) {
        std::vector<uint8_t> input;
        if (!seeds.empty() && run % 8 != 0) {
            input = seeds[random() % seeds.size()];
            for (unsigned change = random() % 4; !input.empty() && change < 4; ++change) {
                const size_t at = random() % input.size(), until = at + 1 + random() % (input.size() - at);
                const auto from = input.begin() + static_cast<std::ptrdiff_t>(at), to = input.begin() + static_cast<std::ptrdiff_t>(until);
                switch (random() % 4) {
                    case 0: input[at] = static_cast<uint8_t>(random()); break;
                    case 1: input.erase(from, random() % 4 == 0 ? to : from + 1); break;
                    case 2: input.insert(from, static_cast<uint8_t>(random())); break;
                    default:
                        if (until - at < 64) {
                            const std::vector<uint8_t> piece(from, to);
                            input.insert(input.begin() + static_cast<std::ptrdiff_t>(random() % input.size()), piece.begin(), piece.end());
                        }
                }
            }
        } else {
            input.resize(random() % 2000);
            for (auto &byte : input) byte = static_cast<uint8_t>(random());
        }
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::printf("%ld runs\n", runs);
    return 0;
}
