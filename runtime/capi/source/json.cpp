#include "json.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <unordered_set>

#include "failure.h"

namespace dtfsal {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxNumber = 400;     // characters

class Parser {
public:
    Parser(std::string_view text, const std::string &source) : text_(text), source_(source) {}

    JsonValue document() {
        check_utf8();
        JsonValue value = this->value(0);
        space();
        if (at_ != text_.size()) bad("something follows the document");
        return value;
    }

private:
    [[noreturn]] void bad(const std::string &why) const {
        dtfsal::fail(Kind::bad_engine, source_ + " is not valid JSON (" + why + " at byte " + std::to_string(at_) +
                                           "); rebuild the engine or copy it again");
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void space() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
            ++at_;
    }

    bool word(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    JsonValue value(int depth) {
        if (depth > kMaxDepth) dtfsal::fail(Kind::bad_engine, source_ + " is nested too deeply to be an engine's manifest");
        space();
        JsonValue result;
        const char first = peek();
        if (first == '{') {
            object(result, depth);
        } else if (first == '[') {
            array(result, depth);
        } else if (first == '"') {
            result.type = JsonValue::Type::string;
            result.string = string();
        } else if (first == '-' || (first >= '0' && first <= '9')) {
            number(result);
        } else if (word("null")) {
            result.type = JsonValue::Type::null;
        } else if (word("true") || word("false")) {
            result.type = JsonValue::Type::boolean;
            result.boolean = text_[at_ - 2] == 'u';  // tr-u-e, fal-s-e
        } else {
            bad("a value is missing");
        }
        return result;
    }

    void object(JsonValue &result, int depth) {
        result.type = JsonValue::Type::object;
        ++at_;
        space();
        if (peek() == '}') {
            ++at_;
            return;
        }
        std::unordered_set<std::string> keys;
        for (;;) {
            space();
            if (peek() != '"') bad("a key is missing");
            std::string key = string();
            if (!keys.insert(key).second) bad("the key '" + key + "' occurs twice in one object");
            space();
            if (peek() != ':') bad("a colon is missing");
            ++at_;
            result.members.emplace_back(std::move(key), value(depth + 1));
            space();
            if (peek() == ',') {
                ++at_;
            } else if (peek() == '}') {
                ++at_;
                return;
            } else {
                bad("a comma or a brace is missing");
            }
        }
    }

    void array(JsonValue &result, int depth) {
        result.type = JsonValue::Type::array;
        ++at_;
        space();
        if (peek() == ']') {
            ++at_;
            return;
        }
        for (;;) {
            result.items.push_back(value(depth + 1));
            space();
            if (peek() == ',') {
                ++at_;
            } else if (peek() == ']') {
                ++at_;
                return;
            } else {
                bad("a comma or a bracket is missing");
            }
        }
    }

    void number(JsonValue &result) {
        const size_t begin = at_;
        const auto digits = [&] {
            const size_t first = at_;
            while (peek() >= '0' && peek() <= '9') ++at_;
            return at_ - first;
        };
        if (peek() == '-') ++at_;
        if (peek() == '0') {
            ++at_;
        } else if (digits() == 0) {
            bad("a digit is missing");
        }
        bool whole = true;
        if (peek() == '.') {
            whole = false;
            ++at_;
            if (digits() == 0) bad("a digit is missing");
        }
        if (peek() == 'e' || peek() == 'E') {
            whole = false;
            ++at_;
            if (peek() == '+' || peek() == '-') ++at_;
            if (digits() == 0) bad("a digit is missing");
        }
        if (at_ - begin > kMaxNumber) bad("a number is too long");
        const std::string text(text_.substr(begin, at_ - begin));
        errno = 0;
        if (whole) {
            result.integer = std::strtoll(text.c_str(), nullptr, 10);
            if (errno == 0) {
                result.type = JsonValue::Type::integer;
                result.real = static_cast<double>(result.integer);
                return;
            }
        }
        result.type = JsonValue::Type::real;
        result.real = std::strtod(text.c_str(), nullptr);
    }

    unsigned hex() {
        if (at_ + 4 > text_.size()) bad("an escape is cut short");
        unsigned code = 0;
        for (int digit = 0; digit < 4; ++digit) {
            const char c = text_[at_++];
            code <<= 4;
            if (c >= '0' && c <= '9') {
                code |= static_cast<unsigned>(c - '0');
            } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
                code |= static_cast<unsigned>((c | 32) - 'a' + 10);
            } else {
                bad("an escape has no hexadecimal digit");
            }
        }
        return code;
    }

    static void append_utf8(std::string &text, unsigned code) {
        if (code < 0x80) {
            text += static_cast<char>(code);
        } else if (code < 0x800) {
            text += static_cast<char>(0xc0 | code >> 6);
            text += static_cast<char>(0x80 | (code & 0x3f));
        } else if (code < 0x10000) {
            text += static_cast<char>(0xe0 | code >> 12);
            text += static_cast<char>(0x80 | (code >> 6 & 0x3f));
            text += static_cast<char>(0x80 | (code & 0x3f));
        } else {
            text += static_cast<char>(0xf0 | code >> 18);
            text += static_cast<char>(0x80 | (code >> 12 & 0x3f));
            text += static_cast<char>(0x80 | (code >> 6 & 0x3f));
            text += static_cast<char>(0x80 | (code & 0x3f));
        }
    }

    std::string string() {
        std::string result;
        ++at_;
        for (;;) {
            if (at_ >= text_.size()) bad("a string has no end");
            const char c = text_[at_++];
            if (c == '"') return result;
            if (static_cast<unsigned char>(c) < 0x20) bad("a string has a control character");
            if (c != '\\') {
                result += c;
                continue;
            }
            const char escape = peek();
            ++at_;
            switch (escape) {
                case '"': case '\\': case '/': result += escape; break;
                case 'b': result += '\b'; break;
                case 'f': result += '\f'; break;
                case 'n': result += '\n'; break;
                case 'r': result += '\r'; break;
                case 't': result += '\t'; break;
                case 'u': {
                    unsigned code = hex();
                    if (code >= 0xd800 && code < 0xdc00 && word("\\u")) {
                        const unsigned low = hex();
                        if (low < 0xdc00 || low >= 0xe000) bad("a surrogate is alone");
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    }
                    if (code >= 0xd800 && code < 0xe000) bad("a surrogate is alone");
                    append_utf8(result, code);
                    break;
                }
                default: bad("an escape is unknown");
            }
        }
    }

    void check_utf8() {
        while (at_ < text_.size()) {
            const auto byte = [&](size_t offset) -> unsigned {
                return at_ + offset < text_.size() ? static_cast<unsigned char>(text_[at_ + offset]) : 0;
            };
            const unsigned lead = byte(0);
            const size_t more = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2
                              : lead >= 0xf0 && lead < 0xf5 ? 3 : 4;
            if (more == 4) bad("a byte is not UTF-8");
            unsigned code = more == 0 ? lead : lead & (0x3fu >> more);
            for (size_t offset = 1; offset <= more; ++offset) {
                if ((byte(offset) & 0xc0) != 0x80) bad("a byte is not UTF-8");
                code = code << 6 | (byte(offset) & 0x3f);
            }
            if ((more == 2 && code < 0x800) || (more == 3 && (code < 0x10000 || code > 0x10ffff)) ||
                (code >= 0xd800 && code < 0xe000))
                bad("a byte is not UTF-8");
            at_ += more + 1;
        }
        at_ = 0;
    }

    std::string_view text_;
    const std::string &source_;
    size_t at_ = 0;
};

}  // namespace

JsonValue parse_json(std::string_view text, const std::string &source) { return Parser(text, source).document(); }

void JsonNode::fail(const std::string &problem) const {
    dtfsal::fail(Kind::bad_engine, *source_ + (path_.empty() ? " " : ": " + path_ + " ") + problem);
}

void JsonNode::expected(const char *what) const {
    static const char *const names[] = {"null", "true or false", "an integer", "a number", "a string", "an array",
                                        "an object"};
    fail(std::string("must be ") + what + ", not " + names[static_cast<int>(value_->type)]);
}

bool JsonNode::has(std::string_view key) const {
    for (const auto &member : value_->members)
        if (member.first == key) return true;
    return false;
}

JsonNode JsonNode::operator[](std::string_view key) const {
    for (const auto &member : value_->members)
        if (member.first == key)
            return JsonNode(member.second, path_.empty() ? member.first : path_ + "." + member.first, *source_);
    fail("lacks the key '" + std::string(key) + "'");
}

void JsonNode::expect_keys(const std::vector<std::string_view> &keys) const {
    if (!is_object()) expected("an object");
    for (const auto key : keys)
        if (!has(key)) fail("lacks the key '" + std::string(key) + "'");
    for (const auto &member : value_->members) {
        bool known = false;
        for (const auto key : keys) known = known || member.first == key;
        if (!known) fail("has the unknown key '" + member.first.substr(0, 60) + "'");
    }
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::mapping() const {
    if (!is_object()) expected("an object");
    std::vector<std::pair<std::string, JsonNode>> result;
    for (const auto &member : value_->members)
        result.emplace_back(member.first, JsonNode(member.second, path_.empty() ? member.first : path_ + "." + member.first, *source_));
    return result;
}

std::vector<JsonNode> JsonNode::array() const {
    if (value_->type != JsonValue::Type::array) expected("an array");
    std::vector<JsonNode> result;
    for (size_t index = 0; index < value_->items.size(); ++index)
        result.emplace_back(value_->items[index], path_ + "[" + std::to_string(index) + "]", *source_);
    return result;
}

const std::string &JsonNode::string() const {
    if (value_->type != JsonValue::Type::string) expected("a string");
    return value_->string;
}

int64_t JsonNode::integer() const {
    if (value_->type != JsonValue::Type::integer || value_->integer == INT64_MIN) expected("an integer");
    return value_->integer;
}

double JsonNode::number() const {
    if (value_->type != JsonValue::Type::integer && value_->type != JsonValue::Type::real) expected("a number");
    if (!std::isfinite(value_->real)) expected("a finite number");
    return value_->real;
}

}  // namespace dtfsal
