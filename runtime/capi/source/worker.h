// A thread that does one thing at a time for another.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace dtfsal {

class Worker {
public:
    Worker() = default;
    ~Worker() {
        {
            const std::lock_guard<std::mutex> guard(state_);
            ended_ = true;
        }
        changed_.notify_all();
        if (thread_.joinable()) thread_.join();
    }
    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;

    // Has the thread do something that raises nothing, after what it did before.
    void begin(std::function<void()> job) {
        wait();
        if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
        {
            const std::lock_guard<std::mutex> guard(state_);
            job_ = std::move(job);
            busy_ = true;
        }
        changed_.notify_all();
    }

    void wait() {
        std::unique_lock<std::mutex> guard(state_);
        changed_.wait(guard, [this] { return !busy_; });
    }

private:
    void work() {
        std::unique_lock<std::mutex> guard(state_);
        while (true) {
            changed_.wait(guard, [this] { return busy_ || ended_; });
            if (!busy_) return;
            guard.unlock();
            job_();
            guard.lock();
            busy_ = false;
            changed_.notify_all();
        }
    }

    std::mutex state_;
    std::condition_variable changed_;
    std::function<void()> job_;
    bool busy_ = false, ended_ = false;
    std::thread thread_;
};

}  // namespace dtfsal
