#include "sha256.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "failure.h"

namespace dtfsal {
namespace {

uint32_t rotated(uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

// The constants are the first 32 bits of the fractional parts of the cube roots of the first 64 primes.
std::array<uint32_t, 64> round_constants() {
    std::array<uint32_t, 64> result{};
    size_t found = 0;
    for (uint32_t candidate = 2; found < result.size(); ++candidate) {
        bool prime = true;
        for (uint32_t divisor = 2; divisor * divisor <= candidate; ++divisor) prime = prime && candidate % divisor != 0;
        if (!prime) continue;
        const long double root = cbrtl(candidate);
        result[found++] = static_cast<uint32_t>((root - floorl(root)) * 4294967296.0L);
    }
    return result;
}

}  // namespace

void Sha256::block(const uint8_t *bytes) {
    static const std::array<uint32_t, 64> constants = round_constants();
    std::array<uint32_t, 64> words;
    for (size_t i = 0; i < 16; ++i)
        words[i] = static_cast<uint32_t>(bytes[4 * i]) << 24 | static_cast<uint32_t>(bytes[4 * i + 1]) << 16 |
                   static_cast<uint32_t>(bytes[4 * i + 2]) << 8 | bytes[4 * i + 3];
    for (size_t i = 16; i < 64; ++i) {
        const uint32_t a = words[i - 15], b = words[i - 2];
        words[i] = words[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + words[i - 7] +
                   (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (size_t i = 0; i < 64; ++i) {
        const uint32_t first = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) +
                               constants[i] + words[i];
        const uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<uint32_t, 8> added = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state_[i] += added[i];
}

void Sha256::update(const void *data, size_t size) {
    const auto *bytes = static_cast<const uint8_t *>(data);
    total_ += size;
    while (size > 0) {
        if (filled_ == 0 && size >= 64) {
            block(bytes);
            bytes += 64, size -= 64;
            continue;
        }
        const size_t taken = size < 64 - filled_ ? size : 64 - filled_;
        std::memcpy(pending_.data() + filled_, bytes, taken);
        filled_ += taken, bytes += taken, size -= taken;
        if (filled_ == 64) {
            block(pending_.data());
            filled_ = 0;
        }
    }
}

std::string Sha256::hex() {
    const uint64_t bits = total_ * 8;
    const uint8_t one = 0x80, zero = 0;
    update(&one, 1);
    while (filled_ != 56) update(&zero, 1);
    uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    update(length, 8);
    std::string text;
    for (const uint32_t word : state_)
        for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    return text;
}

std::string sha256_file(const std::string &path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) fail(Kind::bad_engine, path + " cannot be read: " + std::strerror(errno));
    Sha256 digest;
    std::vector<uint8_t> chunk(1 << 20);
    size_t size;
    while ((size = std::fread(chunk.data(), 1, chunk.size(), file.get())) > 0) digest.update(chunk.data(), size);
    if (std::ferror(file.get())) fail(Kind::bad_engine, path + " cannot be read to its end");
    return digest.hex();
}

}  // namespace dtfsal
