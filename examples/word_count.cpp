// Counts the words of every regular file below the paths with a process pool, and shows the commonest ones.
//
//   word_count PATH... [--start-method M] [--workers N] [--log FILE] [--stop-words FILE] [--stats FILE]
//              [--trace FILE]
//
// The total is that of `LC_ALL=C wc -w` over the same files. Files that cannot be read are logged as warnings
// and counted. What all workers say is one log: coloured on stderr, and with a line for each file in the
// --log FILE. --stats FILE is for examples/run. --trace FILE is a trace that Perfetto opens, and its end says
// what the slices in it come to.
//
// run: @SOURCE@/LICENSE --workers 2 --log @TEMP@/words.log
// expect: stop words loaded
// expect: 170 words in 1 file; the commonest
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <kindred/kindred.hpp>

// --- in the workers
// --------------------------------------------------------------------------------------------------------------------

using Tally = std::unordered_map<std::string, std::uint64_t>;

struct FileWords {
  bool readable = false;
  std::uint64_t words = 0;
  Tally commonest;  // words of letters only, in lower case, without the stop words
};

struct Rules {
  std::unordered_set<std::string> stop_words;
  bool unprintable_words = false;  // count them, too
};

// The initializer: each worker loads the list once, and its tasks find it in the worker's state.
void load_rules(kindred::Worker& worker, const std::string& file, bool unprintable_words) {
  constexpr std::string_view english =
      "a about all also an and any are as at be been but by can do does each else for from has have he her his how i if in into is it its may "
      "more must no not of on one only or other our she should so such than that the their then there these they this to up use used was we "
      "were what when where which who will with would you your";
  std::istringstream built_in{std::string{english}};
  std::ifstream given{file};
  if (!file.empty() && !given) throw std::runtime_error{"cannot read the stop words in " + file};
  std::istream& in = file.empty() ? static_cast<std::istream&>(built_in) : given;
  auto& [stop_words, unprintable] = worker.state<Rules>();
  unprintable = unprintable_words;
  for (std::string word; in >> word;) stop_words.insert(word);
  kindred::log_info("{} stop words loaded", stop_words.size());
}

// A word as `wc` sees it in the C locale: what stands between white space. Before coreutils 9.5 it had to
// have a printable character.
class WordCounter {
 public:
  explicit WordCounter(const Rules& rules) : rules_{rules} {}

  void read(std::string_view bytes) {
    for (const char byte : bytes) {
      const auto code = static_cast<unsigned char>(byte);
      if (code == ' ' || (code >= '\t' && code <= '\r')) {
        end_word();
        continue;
      }
      counts_ = counts_ || rules_.unprintable_words || (code > ' ' && code < 0x7f);
      if (word_.size() <= longest) word_.push_back(byte);
    }
  }
  FileWords finish() {
    end_word();
    found_.readable = true;
    return std::move(found_);
  }

 private:
  static constexpr std::size_t longest = 32;
  static bool is_letter(char byte) { return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'); }

  void end_word() {
    if (counts_) {
      ++found_.words;
      tally();
    }
    counts_ = false;
    word_.clear();
  }
  // "(the" and "Word," count as their letters; "x86_64" and what is longer than words are does not count
  // here.
  void tally() {
    const auto first = std::find_if(word_.begin(), word_.end(), is_letter);
    const auto last = std::find_if(word_.rbegin(), word_.rend(), is_letter).base();
    if (word_.size() > longest || last - first < 2 || !std::all_of(first, last, is_letter)) return;
    std::string word{first, last};
    for (char& letter : word) letter = static_cast<char>(letter | 0x20);
    if (!rules_.stop_words.contains(word)) ++found_.commonest[std::move(word)];
  }

  const Rules& rules_;
  std::string word_;
  bool counts_ = false;
  FileWords found_;
};

// The task: the words of one file.
FileWords count_words(kindred::Worker& worker, const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  WordCounter counter{worker.state<Rules>()};
  std::array<char, 64 * 1024> buffer;
  while (file.read(buffer.data(), buffer.size()), file.gcount() > 0)
    counter.read({buffer.data(), static_cast<std::size_t>(file.gcount())});
  if (!file.eof()) {
    kindred::log_warn("cannot read {}: {}", path, std::generic_category().message(errno));
    return {};
  }
  FileWords found = counter.finish();
  kindred::log_debug("{}: {} words", path, found.words);
  return found;
}

// --- in the parent
// ---------------------------------------------------------------------------------------------------------------------

struct Arguments {
  std::vector<std::string> paths;
  kindred::StartMethod start_method = kindred::default_start_method();
  std::size_t workers = 0;
  std::string log, stop_words, stats, trace;
};

[[noreturn]] void refuse(const std::string& why) {
  throw std::invalid_argument{
      why +
      "\nusage: word_count PATH... [--start-method fork|spawn|forkserver] [--workers N] [--log FILE]"
      " [--stop-words FILE] [--stats FILE] [--trace FILE]"};
}

Arguments read_arguments(const std::vector<std::string>& words) {
  Arguments arguments;
  for (auto word = words.begin(); word != words.end(); ++word) {
    const std::string& option = *word;
    if (!option.starts_with("--")) {
      if (!std::filesystem::exists(std::filesystem::symlink_status(option))) refuse("there is no " + option);
      arguments.paths.push_back(option);
      continue;
    }
    if (std::next(word) == words.end()) refuse(option + " needs a value, or is unknown");
    const std::string& value = *++word;
    if (option == "--start-method")
      arguments.start_method = kindred::parse_start_method(value);
    else if (option == "--log")
      arguments.log = value;
    else if (option == "--stop-words")
      arguments.stop_words = value;
    else if (option == "--stats")
      arguments.stats = value;
    else if (option == "--trace")
      arguments.trace = value;
    else if (option != "--workers")
      refuse("unknown option " + option);
    else if (const char* const end = value.data() + value.size();
             std::from_chars(value.data(), end, arguments.workers).ptr != end || value.empty())
      refuse("--workers is '" + value + "', which is no number");
  }
  if (arguments.paths.empty()) refuse("no path is given");
  if (!arguments.stop_words.empty() && !std::ifstream{arguments.stop_words})
    refuse("cannot read the stop words in " + arguments.stop_words);
  return arguments;
}

// All regular files, as `find PATH... -type f` has them: links are not followed. Directories that cannot be
// read are logged.
std::vector<std::string> files_below(std::vector<std::string> to_visit, const kindred::ExecutorLogger& log) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  while (!to_visit.empty()) {
    const std::string path = std::move(to_visit.back());
    to_visit.pop_back();
    std::error_code failed;
    const auto type = fs::symlink_status(path, failed).type();
    if (type == fs::file_type::regular) files.push_back(path);
    if (type != fs::file_type::directory) continue;
    fs::directory_iterator entry{path, failed};
    for (; !failed && entry != fs::directory_iterator{}; entry.increment(failed))
      to_visit.push_back(entry->path().string());
    if (failed) log.warn("cannot read the directory {}: {}", path, failed.message());
  }
  return files;
}

// Which of the two this system's `wc` does is asked of it, so that the totals are the same. Where there is
// none, the newer.
bool wc_counts_unprintable_words() {
  int words = 1;
  if (FILE* const wc = ::popen("printf '\\001' | LC_ALL=C wc -w", "r"); wc != nullptr) {
    if (std::fscanf(wc, "%d", &words) != 1) words = 1;
    ::pclose(wc);
  }
  return words == 1;
}

void print_commonest(const Tally& tally) {
  std::vector<std::pair<std::string, std::uint64_t>> words{tally.begin(), tally.end()};
  const std::size_t count = std::min<std::size_t>(20, words.size());
  std::partial_sort(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(count), words.end(),
                    [](const auto& left, const auto& right) {
                      return left.second != right.second ? left.second > right.second
                                                         : left.first < right.first;
                    });
  fmt::print("the commonest of them (stop words are left out):\n");
  for (std::size_t i = 0; i < count; ++i) fmt::print("{:10}  {}\n", words[i].second, words[i].first);
}

void count_all(kindred::Entry& entry, const Arguments& arguments) {
  const auto started = std::chrono::steady_clock::now();
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = arguments.start_method,
       .max_workers = arguments.workers,
       .initializer = {load_rules, arguments.stop_words, wc_counts_unprintable_words()},
       .log = {.level = arguments.log.empty() ? kindred::Level::info : kindred::Level::debug},
       .handle_interrupt = true,
       .trace = arguments.trace}};
  std::uint64_t delivered = 0;
  pool.logger().add_sink(kindred::sinks::stderr_color(), {.level = kindred::Level::info});
  if (!arguments.log.empty()) pool.logger().add_sink(kindred::sinks::file(arguments.log, {.truncate = true}));
  pool.logger().add_sink(
      [&](const kindred::LogRecord& record) { delivered += record.origin == kindred::Origin::log; });

  const std::vector<std::string> files = files_below(arguments.paths, pool.logger());
  std::uint64_t words = 0, readable = 0;
  Tally tally;
  kindred::ProgressBar bar{std::cerr, files.size(), "files"};
  for (const FileWords& file : pool.map(count_words, files, {.ordered = false, .progress = bar})) {
    readable += file.readable;
    words += file.words;
    for (const auto& [word, count] : file.commonest) tally[word] += count;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  pool.logger().info("{} counted, {} not readable", readable, files.size() - readable);
  pool.logger().flush();
  fmt::print("{} words in {} file{}; ", words, readable, readable == 1 ? "" : "s");
  print_commonest(tally);
  if (!arguments.trace.empty()) {
    const auto stats = pool.stats();
    const std::chrono::duration<double> run_time = stats.run_time;
    pool.logger().info("{} calls ran for {:.6f} s", stats.done, run_time.count());
  }
  if (!arguments.stats.empty()) {
    std::ofstream out{arguments.stats};
    out << readable << ' ' << words << ' ' << seconds.count() << ' ' << pool.stats().log.committed << ' '
        << delivered << '\n';
    if (!out.flush()) throw std::runtime_error{"cannot write " + arguments.stats};
  }
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  try {
    const Arguments arguments = read_arguments({argv + 1, argv + argc});
    count_all(entry, arguments);
    return 0;
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "word_count: {}\n", error.what());
    return 2;
  } catch (const kindred::UsageError& error) {
    fmt::print(stderr, "word_count: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "word_count: {}\n", error.what());
    return 1;
  }
}
