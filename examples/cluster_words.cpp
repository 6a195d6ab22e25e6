// Counts the words of every regular file below the paths on the nodes of a cluster; examples/cluster starts a
// server and three nodes for it, and kills one of them in the middle.
//
//   cluster_words PATH... --servers URL [--log FILE]
//
// The total is that of `LC_ALL=C wc -w` over the same files; those that cannot be read count as none. A batch
// whose node is lost is counted anew by another node: so it has retries.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <kindred/cluster.hpp>
#include <kindred/log.hpp>
#include <kindred/sinks.hpp>

// --- on the nodes

// Before coreutils 9.5 a word of `wc` had to have a printable character.
std::uint64_t count_words(std::string_view bytes, bool unprintable_words) {
  std::uint64_t words = 0;
  bool counts = false;
  for (const char byte : bytes) {
    const auto code = static_cast<unsigned char>(byte);
    if (code == ' ' || (code >= '\t' && code <= '\r')) {
      words += counts ? 1U : 0U;
      counts = false;
    } else {
      counts = counts || unprintable_words || (code > ' ' && code < 0x7f);
    }
  }
  return words + (counts ? 1U : 0U);
}

std::uint64_t count_files(const std::vector<std::string>& paths, bool unprintable_words) {
  std::uint64_t words = 0;
  for (const std::string& path : paths) {
    std::ifstream in{path, std::ios::binary};
    const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
    words += count_words(bytes, unprintable_words);
  }
  kindred::log_info("{} words in {} files from {}", words, paths.size(), paths.front());
  return words;
}

// --- in the head

// Which of the two this system's `wc` does is asked of it. Where there is none, the newer.
bool wc_counts_unprintable_words() {
  int words = 1;
  if (FILE* const wc = ::popen("printf '\\001' | LC_ALL=C wc -w", "r"); wc != nullptr) {
    if (std::fscanf(wc, "%d", &words) != 1) words = 1;
    ::pclose(wc);
  }
  return words == 1;
}

struct Arguments {
  std::vector<std::string> paths;
  std::string servers = "nats://127.0.0.1:4222";
  std::string log;
};

Arguments read_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--servers" && i + 1 < argc)
      arguments.servers = argv[++i];
    else if (argument == "--log" && i + 1 < argc)
      arguments.log = argv[++i];
    else
      arguments.paths.push_back(argument);
  }
  return arguments;
}

std::vector<std::vector<std::string>> batches_below(const std::vector<std::string>& paths) {
  constexpr std::size_t files_in_batch = 25;
  std::vector<std::vector<std::string>> batches(1);
  const auto add = [&batches](const std::filesystem::path& path) {
    if (batches.back().size() == files_in_batch) batches.emplace_back();
    batches.back().push_back(path.string());
  };
  for (const std::string& path : paths) {
    if (std::filesystem::is_regular_file(std::filesystem::symlink_status(path))) add(path);
    if (!std::filesystem::is_directory(path)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator{path}) {
      if (entry.is_regular_file() && !entry.is_symlink()) add(entry.path());
    }
  }
  if (batches.back().empty()) batches.pop_back();
  return batches;
}

int main(int argc, char** argv) {
  kindred::ClusterEntry entry{argc, argv};
  const Arguments arguments = read_arguments(argc, argv);
  if (arguments.paths.empty()) {
    std::fputs("usage: cluster_words PATH... --servers URL [--log FILE]\n", stderr);
    return 2;
  }
  try {
    kindred::ClusterExecutor cluster{
        entry,
        {.name = "words", .servers = {arguments.servers}, .min_nodes = 3, .lease = std::chrono::seconds{2}}};
    if (!arguments.log.empty()) cluster.logger().add_sink(arguments.log);
    const bool unprintable_words = wc_counts_unprintable_words();
    std::vector<kindred::Future<std::uint64_t>> futures;
    for (const auto& batch : batches_below(arguments.paths))
      futures.push_back(cluster.submit({.retries = 3}, count_files, batch, unprintable_words));
    std::uint64_t words = 0;
    std::size_t done = 0;
    for (auto& future : kindred::as_completed(futures)) {
      words += future.get();
      if (++done == (futures.size() + 3) / 4) {  // examples/cluster waits for this line
        std::puts("a quarter is done");
        std::fflush(stdout);
      }
    }
    const kindred::ClusterStats stats = cluster.stats();
    std::printf("%llu words in %zu batches; %llu nodes lost, %llu batches counted anew\n",
                static_cast<unsigned long long>(words), futures.size(),
                static_cast<unsigned long long>(stats.nodes_lost),
                static_cast<unsigned long long>(stats.retried));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cluster_words: %s\n", error.what());
    return 1;
  }
}
