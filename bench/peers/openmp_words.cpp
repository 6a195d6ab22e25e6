// The job of examples/word_count.cpp as an OpenMP program: the words of all regular files below a folder, and
// the commonest ones of letters only. A crash of the counting code ends the program with all counts.
//   --path FOLDER --stop_words FILE --threads N --unprintable 1 where a word needs no printable character
//   --share N divides the seconds: what N workers take at best if one thread takes so long
#include <omp.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "support/bench.hpp"

namespace {

using Tally = std::unordered_map<std::string, std::uint64_t>;

struct Rules {
  std::unordered_set<std::string> stop_words;
  bool unprintable = false;
};

struct Counts {
  std::uint64_t files = 0;
  std::uint64_t words = 0;
  Tally tally;
};

bool is_letter(char byte) { return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'); }
bool is_space(unsigned char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

/// Counts what stands between white space, file after file.
class Counter {
 public:
  Counter(const Rules& rules, Counts& counts) : rules_{rules}, counts_{counts} {}

  void file(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    while (file.read(buffer_.data(), buffer_.size()), file.gcount() > 0) {
      for (const char byte : std::string_view{buffer_.data(), static_cast<std::size_t>(file.gcount())})
        take(byte);
    }
    end_word();
    counts_.files += file.eof() ? 1 : 0;
  }

 private:
  static constexpr std::size_t longest = 32;

  void take(char byte) {
    const auto code = static_cast<unsigned char>(byte);
    if (is_space(code)) {
      end_word();
      return;
    }
    is_word_ = is_word_ || rules_.unprintable || (code > ' ' && code < 0x7f);
    if (word_.size() <= longest) word_.push_back(byte);
  }
  void end_word() {
    if (is_word_) {
      ++counts_.words;
      tally();
    }
    is_word_ = false;
    word_.clear();
  }
  void tally() {
    const auto first = std::find_if(word_.begin(), word_.end(), is_letter);
    const auto last = std::find_if(word_.rbegin(), word_.rend(), is_letter).base();
    if (word_.size() > longest || last - first < 2 || !std::all_of(first, last, is_letter)) return;
    std::string letters{first, last};
    for (char& letter : letters) letter = static_cast<char>(letter | 0x20);
    if (!rules_.stop_words.contains(letters)) ++counts_.tally[std::move(letters)];
  }

  const Rules& rules_;
  Counts& counts_;
  std::array<char, 64 * 1024> buffer_{};
  std::string word_;
  bool is_word_ = false;
};

std::vector<std::string> files_below(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  for (const auto& entry :
       fs::recursive_directory_iterator{folder, fs::directory_options::skip_permission_denied}) {
    if (fs::is_regular_file(entry.symlink_status())) files.push_back(entry.path().string());
  }
  return files;
}

Counts count_all(const std::vector<std::string>& files, const Rules& rules, int threads) {
  Counts sum;
#pragma omp parallel num_threads(threads)
  {
    Counts own;
    Counter counter{rules, own};
#pragma omp for schedule(dynamic, 8) nowait
    for (std::size_t index = 0; index < files.size(); ++index) counter.file(files[index]);
#pragma omp critical
    {
      sum.files += own.files;
      sum.words += own.words;
      for (const auto& [word, count] : own.tally) sum.tally[word] += count;
    }
  }
  return sum;
}

/// As word_count prints them, so that the driver compares the texts.
void print(const Counts& counts) {
  std::vector<std::pair<std::string, std::uint64_t>> words{counts.tally.begin(), counts.tally.end()};
  const std::size_t shown = std::min<std::size_t>(20, words.size());
  std::partial_sort(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(shown), words.end(),
                    [](const auto& left, const auto& right) {
                      return left.second != right.second ? left.second > right.second
                                                         : left.first < right.first;
                    });
  std::printf("%llu words in %llu files; the commonest of them (stop words are left out):\n",
              static_cast<unsigned long long>(counts.words), static_cast<unsigned long long>(counts.files));
  for (std::size_t index = 0; index < shown; ++index)
    std::printf("%10llu  %s\n", static_cast<unsigned long long>(words[index].second),
                words[index].first.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const double begin = bench::now_ns();
  const bench::Options options{argc, argv};
  Rules rules;
  rules.unprintable = options.number("unprintable", 0) != 0;
  const auto stop_words = options.text("stop_words", "");
  std::ifstream in{stop_words};
  for (std::string word; in >> word;) rules.stop_words.insert(word);
  if (rules.stop_words.empty()) bench::fail("no stop words in '" + stop_words + "'");
  const auto files = files_below(options.text("path", "/usr/include"));
  const auto counts = count_all(files, rules, static_cast<int>(options.number("threads", 2)));
  const double seconds = (bench::now_ns() - begin) * 1e-9;
  print(counts);
  bench::report(seconds / static_cast<double>(options.number("share", 1)), "s");
}
