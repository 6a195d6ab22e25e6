// replay_corpus FOLDER: gives each target its corpus, FOLDER/<target>/*, in order of names.   replay_corpus
// --seeds FOLDER: writes what a corpus begins with.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz.hpp"

using namespace kindred::fuzz;

int main(int argc, char** argv) {
  const bool seeds = argc == 3 && std::string{argv[1]} == "--seeds";
  if (argc != 2 && !seeds) return 2;
  const std::filesystem::path folder{argv[argc - 1]};
  std::size_t files = 0;
  std::size_t targets = 0;
  for (const Target* target = first_target; target != nullptr; target = target->next, ++targets) {
    const auto place = folder / target->name;
    if (seeds) {
      std::filesystem::create_directories(place);
      target->seeds([&](std::string_view name, Input bytes) {
        std::ofstream{place / name, std::ios::binary}.write(reinterpret_cast<const char*>(bytes.data()),
                                                            static_cast<std::streamsize>(bytes.size()));
      });
      continue;
    }
    std::vector<std::filesystem::path> inputs;
    for (const auto& entry : std::filesystem::directory_iterator{place}) inputs.push_back(entry.path());
    std::ranges::sort(inputs);
    for (const auto& input : inputs) {
      std::ifstream file{input, std::ios::binary};
      const std::string text{std::istreambuf_iterator<char>{file}, {}};
      std::printf("%s\n", input.c_str());  // the last line names the one that it died of
      std::fflush(stdout);
      target->run(bytes_of(text));
      ++files;
    }
  }
  if (!seeds) std::printf("%zu inputs of %zu targets\n", files, targets);
  return 0;
}
