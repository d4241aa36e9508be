#ifdef __linux__
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#else
#include <algorithm>
#include <thread>
#endif

#include "backend.h"

namespace dtfsal {
#ifdef __linux__
namespace {

std::string line_of(const std::string &path) {
    std::ifstream stream(path);
    std::string line;
    std::getline(stream, line);
    return line;
}

// CPUs' worth of time that the control group and those above it grant (version 2), or a great many.
double cpu_quota() {
    double quota = 1e9;
    std::ifstream membership("/proc/self/cgroup");
    for (std::string line; std::getline(membership, line);) {
        if (line.rfind("0::", 0) != 0) continue;
        std::string group = line.substr(3);
        for (;;) {
            std::istringstream limits(line_of("/sys/fs/cgroup" + group + "/cpu.max"));
            double limit = 0, period = 0;
            if (limits >> limit >> period && period > 0) quota = std::min(quota, limit / period);  // "max" is no number
            if (group.empty() || group == "/") break;
            group.resize(group.find_last_of('/'));
        }
    }
    return quota;
}

}  // namespace

int default_threads() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    std::set<std::string> cores;  // siblings on one core count once
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &set)) continue;
        const std::string number = std::to_string(cpu);
        const std::string siblings = line_of("/sys/devices/system/cpu/cpu" + number + "/topology/thread_siblings_list");
        cores.insert(siblings.empty() ? number : siblings);
    }
    return std::max(1, static_cast<int>(std::min(static_cast<double>(cores.size()), std::floor(cpu_quota()))));
}
#else
int default_threads() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }
#endif

}  // namespace dtfsal
