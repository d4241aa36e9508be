// JSON read with suspicion: what Python's side refuses is refused here, and every error names the field.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dtfsal {

struct JsonValue {
    enum class Type { null, boolean, integer, real, string, array, object };

    Type type = Type::null;
    bool boolean = false;
    int64_t integer = 0;
    double real = 0;
    std::string string;
    std::vector<JsonValue> items;                            // of an array
    std::vector<std::pair<std::string, JsonValue>> members;  // of an object, keys unique
};

// Raises Failure (bad_engine) that begins with `source`.
JsonValue parse_json(std::string_view text, const std::string &source);

// A value that knows where it stands. Not copied from: it points into the parsed document.
class JsonNode {
public:
    JsonNode(const JsonValue &value, std::string path, const std::string &source)
        : value_(&value), path_(std::move(path)), source_(&source) {}

    [[noreturn]] void fail(const std::string &problem) const;
    bool is_null() const { return value_->type == JsonValue::Type::null; }
    bool is_object() const { return value_->type == JsonValue::Type::object; }
    bool has(std::string_view key) const;
    JsonNode operator[](std::string_view key) const;  // of an object that has it
    void expect_keys(const std::vector<std::string_view> &keys) const;  // exactly these
    std::vector<std::pair<std::string, JsonNode>> mapping() const;
    std::vector<JsonNode> array() const;
    const std::string &string() const;
    int64_t integer() const;
    double number() const;

private:
    [[noreturn]] void expected(const char *what) const;

    const JsonValue *value_;
    std::string path_;
    const std::string *source_;
};

}  // namespace dtfsal
