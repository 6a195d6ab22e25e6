// kindred-top: what pools do, on a terminal. libpool/doc/view.md is its page.
#define NCURSES_NOMACROS
#include <curses.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "command_line.hpp"
#include "log_follower.hpp"
#include "pool_choice.hpp"
#include "pool_set.hpp"
#include "stack_text.hpp"
#include "view_text.hpp"

namespace {

using namespace kindred::tools;
using namespace kindred::view;
using namespace std::chrono_literals;
using kindred::Level;
namespace json = boost::json;

constexpr std::string_view help_head =
    R"(kindred-top PID [OPTION...]      shows the pools of that process, and those in
                                 its workers
kindred-top PID/N [OPTION...]    one of them: N as kindred-tail lists it
kindred-top [--all] [OPTION...]  all pools of this user (root: of all users)
)";
constexpr std::string_view help_foot =
    R"(Keys: p pools, l log, s stacks of a worker, Tab the next pool, left and right
the worker before and after, + and - the level that the log is shown from, r look
again, up and down and the page keys scroll, Ctrl-L draws all anew, q ends.
Exit status: 0 ended, 1 there is no pool, 2 wrong usage.
)";

struct Wishes {
  PoolChoice choice;
  bool all = false;
  bool once = false;
  bool json = false;
  bool stacks = false;
  std::optional<std::uint64_t> lines;
};

std::uint64_t number_of_lines(const std::string& text) {
  std::uint64_t lines = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), lines);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size())
    throw Stop{exit_usage, fmt::format("--lines is '{}'; it must be a number", text)};
  return lines;
}

Wishes read_arguments(std::vector<std::string> words) {
  Wishes wishes;
  CommandLine line{"kindred-top", help_head};
  line.argument("PID", [&](const std::string& value) { wishes.choice = pool_choice(value); });
  line.flag("--all", "all pools; so it is where no process is named", [&] { wishes.all = true; });
  line.flag("--once", "prints one look, and ends", [&] { wishes.once = true; });
  line.flag("--json", "with --once: as JSON, with the members of kindred-view's /pools.json",
            [&] { wishes.json = true; });
  line.option("--lines", "N", "with --once: also the last N lines of each pool's log",
              [&](const std::string& value) { wishes.lines = number_of_lines(value); });
  line.flag("--stacks", "with --once: also the stacks of all workers, as they are now",
            [&] { wishes.stacks = true; });
  line.foot(help_foot);
  line.read(std::move(words));
  if (wishes.all && wishes.choice.pid)
    throw Stop{exit_usage, "say which pools: kindred-top PID, or kindred-top --all"};
  if ((wishes.json || wishes.stacks || wishes.lines) && !wishes.once)
    throw Stop{exit_usage, "--json, --stacks and --lines need --once"};
  return wishes;
}

/// A worker that runs now, of one of the pools.
struct WorkerNow {
  int index = 0;
  std::uint32_t pid = 0;
};

std::vector<WorkerNow> workers_of(const json::value& view) {
  std::vector<WorkerNow> workers;
  for (const auto& worker : view.at("workers").as_array()) {
    if (const auto pid = worker.at("pid").to_number<std::uint32_t>(); pid != 0)
      workers.push_back({.index = worker.at("index").to_number<int>(), .pid = pid});
  }
  return workers;
}

// --------------------------------------------------------------------------------------------------------------------------------
// On a terminal

/// The terminal. Its former state is restored however the program ends.
class Screen {
 public:
  Screen() {
    std::setlocale(LC_ALL, "");
    if (::newterm(nullptr, stdout, stdin) == nullptr)
      throw Stop{exit_failed, "this terminal is not known (TERM); use --once"};
    ::cbreak();
    ::noecho();
    ::keypad(stdscr, TRUE);
    ::curs_set(0);
    ::timeout(200);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() { ::endwin(); }

  /// `at_end`: shows the last lines, unless the person has scrolled up.
  void draw(const std::vector<std::string>& lines, const std::string& foot, bool at_end) {
    const int rows = std::max(LINES - 1, 1);
    last_top_ = std::max(0, static_cast<int>(lines.size()) - rows);
    if (at_end && follows_) top_ = last_top_;
    top_ = std::clamp(top_, 0, last_top_);
    ::erase();
    for (int row = 0; row < rows && top_ + row < static_cast<int>(lines.size()); ++row) {
      const auto& line = lines[static_cast<std::size_t>(top_) + static_cast<std::size_t>(row)];
      const bool head = line.starts_with("pool ") || line.starts_with("  WORKER") ||
                        line.starts_with("  ENDED") || line.starts_with("thread ");
      if (head) ::attron(A_BOLD);
      ::mvaddnstr(row, 0, line.c_str(), COLS);
      if (head) ::attroff(A_BOLD);
    }
    ::attron(A_REVERSE);
    ::mvaddnstr(rows, 0, foot.c_str(), COLS);
    ::attroff(A_REVERSE);
    ::refresh();
  }
  /// Waits a fifth of a second for a key, and scrolls where it is one for that.
  int take_key() {
    const int key = ::getch();
    const int page = std::max(LINES - 2, 1);
    switch (key) {
      case KEY_DOWN:
      case 'j': scroll(1); break;
      case KEY_UP:
      case 'k': scroll(-1); break;
      case KEY_NPAGE: scroll(page); break;
      case KEY_PPAGE: scroll(-page); break;
      case KEY_HOME: scroll(-last_top_); break;
      case KEY_END: scroll(last_top_); break;
      case 'L' - '@': ::clearok(stdscr, TRUE); break;  // Ctrl-L: another program wrote on the terminal
      default: break;
    }
    return key;
  }
  void to_begin() noexcept {
    top_ = 0;
    follows_ = true;
  }

 private:
  void scroll(int by) noexcept {
    top_ = std::clamp(top_ + by, 0, last_top_);
    follows_ = top_ == last_top_;
  }
  int top_ = 0;
  int last_top_ = 0;
  bool follows_ = true;
};

/// What the person looks at, and what the keys change of it.
class Top {
 public:
  explicit Top(PoolSet& pools) : pools_{pools} {}

  void run() {
    Screen screen;
    for (;;) {
      look();
      screen.draw(lines(), foot(), page_ == Page::log);
      if (!obey(screen.take_key(), screen) || pools_.live() == 0) return;
    }
  }

 private:
  enum class Page : unsigned char { pools, log, stacks };

  void look() {
    const auto look = pools_.next(version_, 0ms);
    if (look.version == version_) return;
    version_ = look.version;
    text_ = view_text_.lines(look.json);
    const auto keys = pools_.live_keys();
    if (std::ranges::find(keys, pool_) != keys.end() || keys.empty()) return;
    pool_ = keys.front();
    show(page_);
  }

  [[nodiscard]] std::vector<std::string> lines() const {
    if (page_ == Page::log) return log_ ? log_->lines() : std::vector<std::string>{"the pool has ended"};
    return page_ == Page::stacks ? stacks_ : text_;
  }

  [[nodiscard]] std::string foot() const {
    switch (page_) {
      case Page::log:
        return fmt::format("log of {} from {}   +, -: level   Tab: pool   up, down: scroll   p, s   q: end",
                           pool_, to_string(level_));
      case Page::stacks:
        return fmt::format("stacks of {}   left, right: worker   r: again   Tab: pool   p, l   q: end",
                           pool_);
      case Page::pools: break;
    }
    return "p: pools   l: log   s: stacks   Tab: pool   up, down: scroll   q: end";
  }

  /// False: the person wants to end.
  bool obey(int key, Screen& screen) {
    const auto turn_to = [&](Page page) {
      screen.to_begin();
      show(page);
    };
    switch (key) {
      case 'q':
      case 'Q': return false;
      case 'p': turn_to(Page::pools); break;
      case 'l': turn_to(Page::log); break;
      case 's': turn_to(Page::stacks); break;
      case 'r': turn_to(page_); break;
      case '\t':
        next_pool();
        turn_to(page_);
        break;
      case KEY_LEFT:
        worker_ -= 1;
        turn_to(page_);
        break;
      case KEY_RIGHT:
        worker_ += 1;
        turn_to(page_);
        break;
      case '+':
      case '-': {
        const int level = static_cast<int>(level_) + (key == '+' ? 1 : -1);
        level_ = static_cast<Level>(
            std::clamp(level, static_cast<int>(Level::trace), static_cast<int>(Level::critical)));
        turn_to(page_);
        break;
      }
      default: break;
    }
    return true;
  }

  void show(Page page) {
    page_ = page;
    log_.reset();
    if (page == Page::log) {
      if (auto connection = pools_.connect(pool_))
        log_ = std::make_unique<LogFollower>(std::move(*connection), level_);
    } else if (page == Page::stacks) {
      look_at_stacks();
    }
  }

  void next_pool() {
    const auto keys = pools_.live_keys();
    const auto at = std::ranges::upper_bound(keys, pool_);
    if (!keys.empty()) pool_ = at == keys.end() ? keys.front() : *at;
  }

  void look_at_stacks() {
    stacks_.clear();
    const auto latest = pools_.latest(pool_);
    const auto workers = latest ? workers_of(json::parse(*latest)) : std::vector<WorkerNow>{};
    if (workers.empty()) return stacks_.push_back("there is no worker now");
    worker_ = std::clamp(worker_, 0, static_cast<int>(workers.size()) - 1);
    const WorkerNow& worker = workers[static_cast<std::size_t>(worker_)];
    stacks_.push_back(fmt::format("pool {}, worker {} (pid {}):", pool_, worker.index, worker.pid));
    try {
      for (auto& line : stacks_as_lines(stacks_of(worker.pid))) stacks_.push_back(shown(line));
    } catch (const std::exception& error) {
      stacks_.push_back(shown(error.what()));
    }
  }

  PoolSet& pools_;
  ViewText view_text_;
  Page page_ = Page::pools;
  std::string pool_;  // of the log and the stacks
  int worker_ = 0;    // counts the workers that run now
  Level level_ = Level::trace;
  std::uint64_t version_ = 0;
  std::vector<std::string> text_;
  std::vector<std::string> stacks_;
  std::unique_ptr<LogFollower> log_;
};

// --------------------------------------------------------------------------------------------------------------------------------
// Once

/// Adds to each pool what was asked for beside the look: "log" and "stacks".
void add_log_and_stacks(const PoolSet& pools, const Wishes& wishes, json::object& pool) {
  const std::string key{pool.at("key").as_string()};
  if (wishes.lines) {
    json::array records;
    if (const auto connection = pools.connect(key)) {
      for (const auto& record : kept_records(*connection, *wishes.lines))
        records.push_back(json::parse(record));
    }
    pool["log"] = std::move(records);
  }
  if (!wishes.stacks) return;
  json::array workers;
  for (const auto& worker : workers_of(pool.at("view"))) {
    json::object one{{"worker", worker.index}, {"pid", worker.pid}};
    try {
      one["threads"] = stacks_as_json(stacks_of(worker.pid));
    } catch (const std::exception& error) {
      one["error"] = error.what();
    }
    workers.push_back(std::move(one));
  }
  pool["stacks"] = std::move(workers);
}

void print_log_and_stacks(const PoolSet& pools, const Wishes& wishes, const json::object& pool) {
  const std::string key{pool.at("key").as_string()};
  if (wishes.lines) {
    fmt::print("log of {}\n", key);
    if (const auto connection = pools.connect(key)) {
      for (const auto& record : kept_records(*connection, *wishes.lines))
        fmt::print("{}\n", record_as_line(record));
    }
  }
  if (!wishes.stacks) return;
  for (const auto& worker : workers_of(pool.at("view"))) {
    fmt::print("stacks of worker {} (pid {}) of {}\n", worker.index, worker.pid, key);
    try {
      for (const auto& line : stacks_as_lines(stacks_of(worker.pid))) fmt::print("{}\n", shown(line));
    } catch (const std::exception& error) {
      fmt::print("{}\n", shown(error.what()));
    }
  }
}

int show_once(PoolSet& pools, const Wishes& wishes) {
  auto look = pools.next(0, 3s);
  for (int i = 0; i < 30 && look.json.find("\"view\"") == std::string::npos; ++i)
    look = pools.next(look.version, 100ms);
  json::value all = json::parse(look.json);
  if (!wishes.json) {
    ViewText text;
    for (const auto& line : text.lines(look.json)) fmt::print("{}\n", line);
    for (const auto& pool : all.at("pools").as_array()) print_log_and_stacks(pools, wishes, pool.as_object());
    return exit_ended;
  }
  for (auto& pool : all.at("pools").as_array()) add_log_and_stacks(pools, wishes, pool.as_object());
  fmt::print("{}\n", json::serialize(all));
  return exit_ended;
}

int run(std::vector<std::string> words) {
  const Wishes wishes = read_arguments(std::move(words));
  PoolSet pools{wishes.choice};
  if (!pools.ever_found()) throw Stop{exit_failed, words_for_no_pool(wishes.choice)};
  if (wishes.once) return show_once(pools, wishes);
  Top{pools}.run();
  if (pools.live() == 0) fmt::print("kindred-top: the pools have ended\n");
  return exit_ended;
}

}  // namespace

int main(int argc, char** argv) { return run_program("kindred-top", argc, argv, run); }
