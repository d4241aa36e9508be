// A queue that allocates while it grows and never after.
#pragma once

#include <cstddef>
#include <vector>

namespace dtfsal {

template <typename Value>
class Queue {
public:
    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    Value &operator[](size_t place) { return values_[(first_ + place) % values_.size()]; }
    const Value &operator[](size_t place) const { return values_[(first_ + place) % values_.size()]; }
    Value &front() { return (*this)[0]; }
    Value &back() { return (*this)[size_ - 1]; }

    void push(const Value &value) {
        if (size_ == values_.size()) {
            std::vector<Value> larger(size_ == 0 ? 16 : 2 * size_);
            for (size_t place = 0; place < size_; ++place) larger[place] = (*this)[place];
            values_.swap(larger);
            first_ = 0;
        }
        ++size_;
        back() = value;
    }
    void pop() {
        first_ = (first_ + 1) % values_.size();
        --size_;
    }
    void clear() { first_ = size_ = 0; }

private:
    std::vector<Value> values_;
    size_t first_ = 0, size_ = 0;
};

}  // namespace dtfsal
