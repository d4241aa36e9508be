#include "chain.h"

#include <algorithm>
#include <set>

#include "failure.h"

namespace dtfsal {
namespace {

constexpr size_t kMostTaps = 64;  // of an input of a graph that has a time

bool is_one_of(const std::string &name, const std::vector<std::string> &names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

[[noreturn]] void refuse(const Bundle &bundle, const std::string &problem) {
    fail(Kind::bad_engine, bundle.path + ": " + problem + "; build the engine again");
}

}  // namespace

Chain::Chain(const Bundle &bundle) : bundle_(bundle), timed_{"frame"}, fields_{{"frame", {0}}} {
    std::vector<std::string> left;
    for (const auto &[name, graph] : bundle.manifest.graphs) {
        for (const auto &output : graph.outputs)
            if (makers_.emplace(output.name, name).first->second != name)
                refuse(bundle, "its graphs '" + makers_[output.name] + "' and '" + name + "' both give " + output.name);
        if (name != "frame" && name != "slice" && name != "head") left.push_back(name);
    }
    while (!left.empty()) {
        const auto ready = std::stable_partition(left.begin(), left.end(), [this](const auto &name) { return !follows(name); });
        if (ready == left.end()) refuse(bundle, "its graph '" + left.front() + "' takes what no graph before it gives");
        const std::vector<std::string> found(ready, left.end());
        left.erase(ready, left.end());
        for (const auto &name : found) add(name);
    }
    if (!follows("head")) refuse(bundle, "its graph 'head' takes what no other graph gives");
    find_runs();
}

bool Chain::follows(const std::string &graph) const {
    const auto &inputs = graph_of(bundle_, graph).inputs;
    return std::all_of(inputs.begin(), inputs.end(), [this](const auto &input) {
        const auto made = makers_.find(input.name);
        return made != makers_.end() && (made->second == "slice" || is_timed(made->second) || is_one_of(made->second, heard_));
    });
}

void Chain::add(const std::string &graph) {
    const GraphSpec &spec = graph_of(bundle_, graph);
    const auto of_slices = [this](const auto &input) { return maker(input.name) == "slice"; };
    if (std::all_of(spec.inputs.begin(), spec.inputs.end(), of_slices)) {
        heard_.push_back(graph);
        return;
    }
    std::set<int> field;
    for (const auto &input : spec.inputs) {
        const auto taps = spec.taps.find(input.name);
        if (!is_timed(maker(input.name)) || taps == spec.taps.end() || taps->second.size() > kMostTaps)
            refuse(bundle_, "its graph '" + graph + "' does not say at which times it takes " + input.name);
        for (const int tap : taps->second)
            for (const int offset : fields_.at(maker(input.name))) field.insert(tap + offset);
    }
    fields_[graph] = {field.begin(), field.end()};
    timed_.push_back(graph);
}

void Chain::find_runs() {
    const int frames = bundle_.manifest.clip.frames;
    std::map<std::string, std::set<int>> times;
    for (const auto &name : timed_) times[name] = {};
    for (const auto &input : graph_of(bundle_, "head").inputs)
        if (is_timed(maker(input.name)))
            for (const int tap : taps("head", input.name)) times[maker(input.name)].insert(tap);
    for (auto name = timed_.rbegin(); name != timed_.rend(); ++name) {
        for (const int time : times[*name]) {
            if (time + fields_[*name].front() < 0 || time + fields_[*name].back() >= frames)
                refuse(bundle_, "its graph '" + *name + "' is asked for times that are not in a window");
            if (*name == "frame") continue;
            for (const auto &input : graph_of(bundle_, *name).inputs)
                for (const int tap : taps(*name, input.name)) times[maker(input.name)].insert(time + tap);
        }
    }
    for (const auto &[name, found] : times) runs_[name] = {found.begin(), found.end()};
}

std::vector<int> Chain::taps(const std::string &graph, const std::string &input) const {
    const GraphSpec &spec = graph_of(bundle_, graph);
    if (const auto found = spec.taps.find(input); found != spec.taps.end()) return found->second;
    std::vector<int> all;
    for (int time = 0; time < bundle_.manifest.clip.frames; ++time) all.push_back(time);
    return all;
}

Shape Chain::wanted(const std::string &graph, const std::string &input) const {
    const std::string &from = maker(input);
    const auto &outputs = graph_of(bundle_, from).outputs;
    const auto &output = *std::find_if(outputs.begin(), outputs.end(), [&](const auto &one) { return one.name == input; });
    const size_t count = from == "slice" ? static_cast<size_t>(bundle_.manifest.audio->slices) : taps(graph, input).size();
    Shape shape = stacked(bundle_, output, static_cast<int>(count));
    if (is_one_of(from, heard_)) shape.erase(shape.begin() + 1);
    return shape;
}

}  // namespace dtfsal
