// The plugin's creator: fields, read and checked.

#include <algorithm>

#include "border.h"
#include "plugin.h"

namespace dtfsal {

std::string read_fields(nvinfer1::PluginFieldCollection const& fields, bool complete, Attributes& attributes) {
    struct Known {
        char const* name;
        int32_t* target;
        int32_t count;
        bool given;
    };
    std::array<Known, 5> known{{{"stride", attributes.stride.data(), 2, false},
                                {"padding", attributes.padding.data(), 2, false},
                                {"dilation", attributes.dilation.data(), 2, false},
                                {"groups", &attributes.groups, 1, false},
                                {"offset_groups", &attributes.offset_groups, 1, false}}};
    if (fields.nbFields > 0 && !fields.fields) {
        return "the fields are null";
    }
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        nvinfer1::PluginField const& field = fields.fields[i];
        std::string const name = field.name ? field.name : "";
        if (name == "plugin_version" || name == "plugin_namespace") {
            continue;  // what a parser was told to find this plugin by
        }
        auto* const found =
            std::find_if(known.begin(), known.end(), [&](Known const& one) { return name == one.name; });
        if (found == known.end()) {
            return "there is no field '" + name + "', only stride, padding, dilation, groups and offset_groups";
        }
        if (field.type != nvinfer1::PluginFieldType::kINT32 || field.length != found->count || !field.data) {
            return "the field '" + name + "' must be " + (found->count == 1 ? "one INT32 value" : "two INT32 values");
        }
        if (found->given) {
            return "the field '" + name + "' is given twice";
        }
        std::copy_n(static_cast<int32_t const*>(field.data), found->count, found->target);
        found->given = true;
    }
    auto* const missing = std::find_if(known.begin(), known.end(), [](Known const& one) { return !one.given; });
    if (complete && missing != known.end()) {
        return std::string("the serialised plugin lacks the field '") + missing->name + "'";
    }
    auto const below = [](std::array<int32_t, 2> const& values, int32_t least) {
        return std::min(values[0], values[1]) < least;
    };
    if (below(attributes.stride, 1) || below(attributes.dilation, 1)) {
        return "stride and dilation must be positive";
    }
    if (below(attributes.padding, 0)) {
        return "padding must not be negative";
    }
    if (attributes.groups < 1 || attributes.offset_groups < 1) {
        return "groups and offset_groups must be positive";
    }
    return "";
}

DeformConvCreator::DeformConvCreator()
    : fields_{int32_field("stride", nullptr, 2), int32_field("padding", nullptr, 2), int32_field("dilation", nullptr, 2),
              int32_field("groups", nullptr, 1), int32_field("offset_groups", nullptr, 1)} {
    names_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

nvinfer1::IPluginV3* DeformConvCreator::createPlugin(
    nvinfer1::AsciiChar const* name, nvinfer1::PluginFieldCollection const* fields,
    nvinfer1::TensorRTPhase phase) noexcept {
    nvinfer1::IPluginV3* plugin = nullptr;
    guarded([&] {
        Attributes attributes;
        nvinfer1::PluginFieldCollection const none{0, nullptr};
        std::string const wrong =
            read_fields(fields ? *fields : none, phase == nvinfer1::TensorRTPhase::kRUNTIME, attributes);
        if (!wrong.empty()) {
            log_error((std::string("dtfsal::DeformConv2d ") + (name ? name : "") + ": " + wrong).c_str());
            return -1;
        }
        plugin = new DeformConvPlugin(attributes);
        return 0;
    });
    return plugin;
}

}  // namespace dtfsal
