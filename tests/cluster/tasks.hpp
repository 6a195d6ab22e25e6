#pragma once

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "cluster/machines.hpp"
#include "kindred/log.hpp"

// The tasks that several test programs run on their nodes, and the gate through which their nodes come in.
namespace kindred::test {

void pass_further_gates(int argc, char** argv) {
  static ClusterEntry entry{argc, argv};
  the_cluster_entry = &entry;
}

inline int twice(int value) { return 2 * value; }
inline void dies() { std::raise(SIGKILL); }
inline int logs(int number) {
  log_info("number {}", number);
  return number;
}
/// Leaves a mark for each time that it begins, so that a test can count.
inline int marks(std::string folder, int number, int milliseconds) {
  std::ofstream{folder + "/" + std::to_string(number), std::ios::app} << this_worker().pid() << '\n';
  std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  return number;
}
/// As `marks`, until there is a file "go" in the folder.
inline int marks_until_go(std::string folder, int number) {
  marks(folder, number, 0);
  while (!std::filesystem::exists(folder + "/go")) std::this_thread::sleep_for(std::chrono::milliseconds{5});
  return number;
}

inline std::size_t lines_in(const std::string& path) {
  std::ifstream in{path};
  std::string line;
  std::size_t count = 0;
  while (std::getline(in, line)) ++count;
  return count;
}

}  // namespace kindred::test
