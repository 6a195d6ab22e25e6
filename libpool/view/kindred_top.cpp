// kindred-top: what pools do, on a terminal. libpool/doc/view.md is its page.
#define NCURSES_NOMACROS
#include <curses.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "arguments.hpp"
#include "kindred/error.hpp"
#include "pool_set.hpp"

namespace {

using namespace kindred::view;
using namespace std::chrono_literals;
namespace json = boost::json;

constexpr const char* usage =
    R"(kindred-top PID [OPTION...]      shows the pools of that process, and those in its workers
kindred-top [--all] [OPTION...]  all pools of this user (root: of all users)

      --once      prints one look, and ends
      --json      with --once: as JSON, with the members of kindred-view's /pools.json
  -h, --help

Keys: q ends, up and down scroll.
Exit status: 0 ended, 1 there is no pool, 2 wrong usage.
)";

struct Wishes {
  Choice choice;
  bool once = false;
  bool json = false;
};

Wishes read_arguments(std::vector<std::string> words) {
  Wishes wishes;
  Arguments arguments{std::move(words)};
  while (const auto word = arguments.next()) {
    if (*word == "-h" || *word == "--help") {
      std::fputs(usage, stdout);
      throw Stop{exit_well, {}};
    }
    if (*word == "--once") {
      wishes.once = true;
    } else if (*word == "--json") {
      wishes.json = true;
    } else if (*word == "--all") {
      wishes.choice = {};
    } else if (!word->starts_with('-') && !wishes.choice.pid) {
      wishes.choice = choice_of(*word);
    } else {
      throw Stop{exit_usage, fmt::format("'{}' is no option; see kindred-top --help", *word)};
    }
  }
  if (wishes.json && !wishes.once) throw Stop{exit_usage, "--json needs --once"};
  return wishes;
}

std::string seconds_as_text(double seconds) {
  if (seconds < 1e-6) return fmt::format("{:.0f} ns", seconds * 1e9);
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string bytes_as_text(double bytes) {
  constexpr std::string_view units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, units[unit]);
}

/// For one line of a terminal: what would act on it is shown as '?'.
std::string shown(const json::value& text) {
  std::string out{text.as_string()};
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

double number(const json::value& object, std::string_view key) { return object.at(key).to_number<double>(); }

/// The shortest time that a share of the durations stayed under, of those counted between two looks.
double percentile(const json::value& now, const json::value* before, double share) {
  std::map<double, double> counts;
  for (const auto& bucket : now.at("buckets").as_array())
    counts[bucket.at(0).to_number<double>()] += bucket.at(1).to_number<double>();
  if (before != nullptr) {
    for (const auto& bucket : before->at("buckets").as_array())
      counts[bucket.at(0).to_number<double>()] -= bucket.at(1).to_number<double>();
  }
  double all = 0;
  for (const auto& [end, count] : counts) all += count;
  double under = 0;
  for (const auto& [end, count] : counts) {
    if (end < 0) continue;
    under += count;
    if (all > 0 && under >= share * all) return end;
  }
  return 0;
}

class Looks {
 public:
  /// The lines of one look. What is counted by time is the difference to the look before.
  std::vector<std::string> lines(const std::string& text) {
    json::value all = json::parse(text);
    std::vector<std::string> out;
    for (const auto& pool : all.at("pools").as_array()) {
      const json::value* before = nullptr;
      if (before_.is_object()) {
        for (const auto& old : before_.at("pools").as_array()) {
          if (old.at("key") == pool.at("key") && old.at("view").at("now") != pool.at("view").at("now"))
            before = &old.at("view");
        }
      }
      put_pool(out, pool, before);
    }
    if (!before_.is_object() || is_newer(all)) before_ = std::move(all);
    return out;
  }

 private:
  bool is_newer(const json::value& all) const {
    return json::serialize(all.at("pools")) != json::serialize(before_.at("pools"));
  }

  void put_pool(std::vector<std::string>& out, const json::value& pool, const json::value* before) {
    const auto& view = pool.at("view");
    const auto& totals = view.at("totals");
    const std::string key{pool.at("key").as_string()};
    if (before != nullptr) {
      const double passed = number(view, "now") - number(*before, "now");
      rates_[key] = (number(totals, "done") - number(before->at("totals"), "done")) / std::max(passed, 1e-3);
      run_[key] = {percentile(view.at("run_time"), &before->at("run_time"), 0.5),
                   percentile(view.at("run_time"), &before->at("run_time"), 0.99)};
      queue_[key] = {percentile(view.at("queue_time"), &before->at("queue_time"), 0.5),
                     percentile(view.at("queue_time"), &before->at("queue_time"), 0.99)};
    }
    const auto& parent = pool.at("parent").as_string();
    std::string state;
    if (pool.at("ended").as_bool()) state = "  ENDED";
    if (!view.at("broken").as_string().empty()) state = "  BROKEN: " + shown(view.at("broken"));
    out.push_back(fmt::format("pool {}{}  {}  {}  up {}{}", key,
                              parent.empty() ? std::string{} : " in a worker of " + std::string{parent},
                              shown(view.at("start_method")), shown(view.at("program")),
                              seconds_as_text(number(view, "now") - number(view, "since")), state));
    out.push_back(
        fmt::format("  tasks: {:.0f} waiting, {:.0f} running, {:.0f} done ({:.0f}/s), {:.0f} failed, "
                    "{:.0f} lost, {:.0f} cancelled",
                    number(totals, "pending"), number(totals, "running"), number(totals, "done"), rates_[key],
                    number(totals, "failed"), number(totals, "lost"), number(totals, "cancelled")));
    out.push_back(
        fmt::format("  run time p50 {} p99 {}   queue time p50 {} p99 {}   memory {}   log {:.0f} "
                    "records, {:.0f} dropped",
                    seconds_as_text(run_[key].first), seconds_as_text(run_[key].second),
                    seconds_as_text(queue_[key].first), seconds_as_text(queue_[key].second),
                    bytes_as_text(number(totals, "rss_bytes")), number(view.at("log"), "committed"),
                    number(view.at("log"), "dropped")));
    put_workers(out, view, before);
    const auto& deaths = view.at("deaths").as_array();
    for (std::size_t i = deaths.size() > 3 ? deaths.size() - 3 : 0; i < deaths.size(); ++i) {
      out.push_back(fmt::format("  worker {:.0f} (pid {:.0f}) {}{}", number(deaths[i], "worker"),
                                number(deaths[i], "pid"), shown(deaths[i].at("reason")),
                                deaths[i].at("task_name").as_string().empty()
                                    ? std::string{}
                                    : " while running '" + shown(deaths[i].at("task_name")) + "'"));
    }
    out.push_back({});
  }

  void put_workers(std::vector<std::string>& out, const json::value& view, const json::value* before) {
    out.push_back("  WORKER      PID  STATE            DONE  FAILED  LOST  RESTARTS   CPU     MEMORY  TASK");
    const auto& workers = view.at("workers").as_array();
    for (std::size_t i = 0; i < workers.size(); ++i) {
      const auto& worker = workers[i];
      double cpu = 0;
      if (before != nullptr && i < before->at("workers").as_array().size()) {
        const auto& old = before->at("workers").as_array()[i];
        const double passed = number(view, "now") - number(*before, "now");
        if (old.at("pid") == worker.at("pid") && passed > 0)
          cpu = (number(worker, "cpu_seconds") - number(old, "cpu_seconds")) / passed;
      }
      std::string task;
      if (number(worker, "task") != 0) {
        task = fmt::format("{} #{:.0f} {}", shown(worker.at("task_name")), number(worker, "task"),
                           seconds_as_text(number(worker, "running_seconds")));
      }
      out.push_back(fmt::format(
          "  {:>6.0f} {:>8.0f}  {:<12} {:>8.0f} {:>7.0f} {:>5.0f} {:>9.0f} {:>4.0f} % {:>10}  {}",
          number(worker, "index"), number(worker, "pid"), shown(worker.at("state")), number(worker, "done"),
          number(worker, "failed"), number(worker, "lost"), number(worker, "restarts"), cpu * 100,
          bytes_as_text(number(worker, "rss_bytes")), task));
    }
  }

  json::value before_;
  std::map<std::string, double> rates_;
  std::map<std::string, std::pair<double, double>> run_;
  std::map<std::string, std::pair<double, double>> queue_;
};

/// The terminal, given back as it was however this ends.
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

  void draw(const std::vector<std::string>& lines) {
    const int rows = LINES - 1;
    top_ = std::clamp(top_, 0, std::max(0, static_cast<int>(lines.size()) - rows));
    ::erase();
    for (int row = 0; row < rows && top_ + row < static_cast<int>(lines.size()); ++row) {
      const auto& line = lines[static_cast<std::size_t>(top_ + row)];
      const bool head = line.starts_with("pool ") || line.starts_with("  WORKER");
      if (head) ::attron(A_BOLD);
      ::mvaddnstr(row, 0, line.c_str(), COLS);
      if (head) ::attroff(A_BOLD);
    }
    ::attron(A_DIM);
    ::mvaddnstr(rows, 0, "q: end   up, down: scroll", COLS);
    ::attroff(A_DIM);
    ::refresh();
  }
  /// False: the person wants to end. Waits a fifth of a second for a key.
  bool take_key() {
    switch (::getch()) {
      case 'q':
      case 'Q': return false;
      case KEY_DOWN:
      case 'j': ++top_; break;
      case KEY_UP:
      case 'k': --top_; break;
      case KEY_NPAGE: top_ += LINES / 2; break;
      case KEY_PPAGE: top_ -= LINES / 2; break;
      default: break;
    }
    return true;
  }

 private:
  int top_ = 0;
};

int show_once(PoolSet& pools, bool as_json) {
  auto look = pools.next(0, 3s);
  for (int i = 0; i < 30 && look.json.find("\"view\"") == std::string::npos; ++i)
    look = pools.next(look.version, 100ms);
  if (as_json) {
    fmt::print("{}\n", look.json);
    return exit_well;
  }
  Looks looks;
  for (const auto& line : looks.lines(look.json)) fmt::print("{}\n", line);
  return exit_well;
}

int run(std::vector<std::string> words) {
  const Wishes wishes = read_arguments(std::move(words));
  PoolSet pools{wishes.choice};
  if (!pools.ever_found()) throw Stop{exit_failed, words_for_no_pool(wishes.choice)};
  if (wishes.once) return show_once(pools, wishes.json);
  Looks looks;
  std::vector<std::string> lines;
  std::uint64_t version = 0;
  {
    Screen screen;
    do {
      const auto look = pools.next(version, 0ms);
      if (look.version != version) {
        version = look.version;
        lines = looks.lines(look.json);
      }
      screen.draw(lines);
    } while (screen.take_key() && pools.live() != 0);
  }
  if (pools.live() == 0) fmt::print("kindred-top: the pools have ended\n");
  return exit_well;
}

}  // namespace

int main(int argc, char** argv) {
  Stop stop{exit_failed, {}};
  try {
    return run({argv + 1, argv + argc});
  } catch (Stop& told) {
    stop = std::move(told);
  } catch (const std::exception& error) {
    stop.words = error.what();
  }
  if (!stop.words.empty()) fmt::print(stderr, "kindred-top: {}\n", stop.words);
  return stop.code;
}
