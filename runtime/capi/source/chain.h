// Which graph makes what, of which frames; the same rules as dtfsal.engines.bundle.chain.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bundle.h"
#include "tensors.h"

namespace dtfsal {

class Chain {
public:
    // Raises Failure (bad_engine) where graphs do not follow from each other.
    explicit Chain(const Bundle &bundle);

    // Graphs that have a time, "frame" the first, each after those that it takes from.
    const std::vector<std::string> &timed() const { return timed_; }
    // Graphs that hear a window.
    const std::vector<std::string> &heard() const { return heard_; }
    // The taps of the frames that a run of a timed graph depends on, from its time.
    const std::vector<int> &field(const std::string &graph) const { return fields_.at(graph); }
    // The times in a window at which a timed graph runs.
    const std::vector<int> &runs(const std::string &graph) const { return runs_.at(graph); }
    // The graph that gives a tensor.
    const std::string &maker(const std::string &tensor) const { return makers_.at(tensor); }
    // The times that an input stacks.
    std::vector<int> taps(const std::string &graph, const std::string &input) const;
    // The shape of an input, by what other graphs give. Raises Failure (bad_engine).
    Shape wanted(const std::string &graph, const std::string &input) const;

    bool is_timed(const std::string &graph) const { return fields_.count(graph) != 0; }

private:
    bool follows(const std::string &graph) const;
    void add(const std::string &graph);
    void find_runs();

    const Bundle &bundle_;
    std::vector<std::string> timed_, heard_;
    std::map<std::string, std::vector<int>> fields_, runs_;
    std::map<std::string, std::string> makers_;
};

}  // namespace dtfsal
