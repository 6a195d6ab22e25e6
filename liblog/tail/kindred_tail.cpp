// kindred-tail: follows the log of a pool from another terminal. doc/tail.md is its page.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "command_line.hpp"
#include "kindred/internal/color.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/local_socket.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"
#include "kindred/internal/tail_client.hpp"
#include "kindred/internal/tail_request.hpp"
#include "pool_choice.hpp"
#include "tail/tail_time.hpp"

namespace {

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::tools;
using namespace std::chrono_literals;

constexpr int standard_output = 1;

constexpr std::string_view help_head =
    R"(kindred-tail                      lists the pools of this user (root: of all)
kindred-tail PID [OPTION...]      follows the log of the pool of that process
                                  until the pool ends
kindred-tail PID/N [OPTION...]    the same where the process has several pools:
                                  N as the list has it
)";
constexpr std::string_view help_foot =
    R"(A tail that is slower than the log loses records and says how many; the pool
never waits for it.
Exit status: 0 the pool has ended, or all was shown; 1 there is no pool, or it
refused, or it died; 2 wrong usage.
)";

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto written = write_some(fd, text);
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// --- the command line

struct Wishes {
  PoolChoice choice;
  TailRequest request;
  std::optional<std::uint64_t> last;
  bool json = false;
  std::string pattern;
  Color color = Color::automatic;
};

/// Calls `take` with each part of "0,2,parent".
template <class Take>
void each_of_list(std::string_view list, Take&& take) {
  for (;;) {
    const auto comma = list.find(',');
    take(list.substr(0, comma));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

void read_workers(Wishes& wishes, const std::string& value) {
  each_of_list(value, [&](std::string_view part) {
    const auto worker = part == "parent" ? std::optional{-1} : number_in<int>(part);
    if (!worker || *worker < -1)
      throw Stop{
          exit_usage,
          fmt::format("--worker is '{}'; it must be an index, or parent, or a list: 0,2,parent", value)};
    wishes.request.workers.push_back(*worker);
  });
}

void read_tasks(Wishes& wishes, const std::string& value) {
  // A name may have commas: only where all parts are numbers is it a list.
  std::vector<std::uint64_t> ids;
  bool all_are_ids = true;
  each_of_list(value, [&](std::string_view part) {
    const auto id = number_in<std::uint64_t>(part);
    all_are_ids = all_are_ids && id;
    ids.push_back(id.value_or(0));
  });
  if (!all_are_ids) return wishes.request.task_names.push_back(value);
  wishes.request.task_ids.insert(wishes.request.task_ids.end(), ids.begin(), ids.end());
}

void read_since(Wishes& wishes, const std::string& value) {
  const auto now = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  wishes.request.since = parse_moment(value, now.time_since_epoch().count());
  if (!wishes.request.since)
    throw Stop{
        exit_usage,
        fmt::format("--since is '{}'; examples: \"10 min\", 14:03, 2026-11-28, \"2026-11-28 14:03:11\", "
                    "today, yesterday, @1795874591",
                    value)};
}

void read_lines(Wishes& wishes, const std::string& value) {
  wishes.last = value == "all" ? std::optional{TailRequest::all} : number_in<std::uint64_t>(value);
  if (!wishes.last || *wishes.last > TailRequest::all)
    throw Stop{exit_usage, fmt::format("--lines is '{}'; it must be a number, or all", value)};
}

void read_color(Wishes& wishes, const std::string& value) {
  if (value == "auto")
    wishes.color = Color::automatic;
  else if (value == "always")
    wishes.color = Color::always;
  else if (value == "never")
    wishes.color = Color::never;
  else
    throw Stop{exit_usage, fmt::format("--color is '{}'; it must be auto, always or never", value)};
}

void describe_filters(CommandLine& line, Wishes& wishes) {
  TailRequest& request = wishes.request;
  line.group(
      "What to show (each filter must be met; --worker and --task may be repeated, or\n"
      "have a list: 0,2)");
  line.option("-l,--level", "LEVEL",
              "records of that level and above: trace, debug, info, warn, error, critical",
              [&](const std::string& value) { request.level = parse_level(value); });
  line.option("-w,--worker", "INDEX", "records of these workers; \"parent\" is the program itself",
              [&](const std::string& value) { read_workers(wishes, value); });
  line.option("-t,--task", "ID|NAME", "records of these tasks, or of tasks of that name",
              [&](const std::string& value) { read_tasks(wishes, value); });
  line.option("--logger", "NAME", "records of that logger and those below it",
              [&](const std::string& value) { request.logger = value; });
  line.option("--node", "NAME", "records of these nodes of a cluster (PID is its head's); or a list: a,b",
              [&](const std::string& value) {
                each_of_list(value, [&](std::string_view part) { request.nodes.emplace_back(part); });
              });
  line.option("--text", "TEXT", "records whose message contains the text",
              [&](const std::string& value) { request.text = value; });
  line.option("-S,--since", "WHEN",
              "records since then: \"10 min\", 14:03, \"2026-11-28 14:03:11\", today, yesterday",
              [&](const std::string& value) { read_since(wishes, value); });
  line.option("-n,--lines,--last", "N|all",
              "begins with the last N that are kept (10; with --since: all). --last is the same",
              [&](const std::string& value) { read_lines(wishes, value); });
  line.flag("-f,--follow", "goes on with the records that come; so it does by itself",
            [&] { request.follow = true; });
  line.flag("--no-follow", "ends after the records that are kept now", [&] { request.follow = false; });
}

void describe(CommandLine& line, Wishes& wishes) {
  line.argument("PID", [&](const std::string& value) { wishes.choice = pool_choice(value); });
  describe_filters(line, wishes);
  line.group("How to show it");
  line.flag("--json", "one JSON object a line, as sinks::json writes them", [&] { wishes.json = true; });
  line.option("--pattern", "P", "lines as that pattern makes them",
              [&](const std::string& value) { wishes.pattern = value; });
  line.option("--color", "WHEN", "auto, always, never",
              [&](const std::string& value) { read_color(wishes, value); });
  line.group("What the pool logs");
  line.option(
      "--set-level", "LEVEL",
      "sets the level, in force at each thread's next log call; with --worker for these workers, with "
      "--logger for loggers below that name. Also \"off\"",
      [&](const std::string& value) {
        wishes.request.ask = TailRequest::set_level;
        wishes.request.level = parse_level(value);
      });
  line.foot(help_foot);
}

Wishes read_arguments(std::vector<std::string> words) {
  Wishes wishes;
  CommandLine line{"kindred-tail", help_head};
  describe(line, wishes);
  line.read(std::move(words));
  wishes.request.last = wishes.last.value_or(wishes.request.since ? TailRequest::all : wishes.request.last);
  if (wishes.request.ask == TailRequest::set_level) {
    if (!wishes.choice.pid) throw Stop{exit_usage, "--set-level needs the process id of a pool"};
    if (!wishes.request.logger.empty() && !wishes.request.workers.empty())
      throw Stop{exit_usage, "--set-level takes --worker or --logger, not both"};
  }
  return wishes;
}

// --- pools

std::map<std::string, std::string> facts_in(std::string_view line) {
  std::map<std::string, std::string> facts;
  while (line.starts_with(' ')) {
    line.remove_prefix(1);
    Field field;
    if (!take_field(line, field)) break;
    facts[field.key] = std::visit([](const auto& value) { return fmt::format("{}", value); }, field.value);
  }
  return facts;
}

int list(std::vector<DoorPool>& pools) {
  TailRequest request;
  request.ask = TailRequest::facts;
  for (const auto& pool : pools) ask_pool(pool, request);
  const auto until = std::chrono::steady_clock::now() + 1s;
  TextBuffer out;
  out.append("    PID    N  START METHOD  WORKERS  SINCE                PROGRAM\n");
  for (const auto& pool : pools) {
    PoolAnswers answers{pool.socket};
    const auto line = answers.next(until, [] {});
    if (!line || line->empty() || line->front() != tail_answer::info) {
      out.append(fmt::format("{:7} {:>4}  {}\n", pool.pid, pool.serial, "does not answer"));
      continue;
    }
    auto facts = facts_in(line->substr(1));
    const std::chrono::sys_seconds since{
        std::chrono::seconds{number_in<std::int64_t>(facts["since"]).value_or(0)}};
    out.append(fmt::format("{:7} {:>4}  {:<12}  {:>7}  {:%Y-%m-%d %H:%M:%S}  ", pool.pid, pool.serial,
                           facts["start_method"], facts["workers"],
                           fmt::localtime(std::chrono::system_clock::to_time_t(since))));
    append_escaped(out, facts["program"]);
    out.push_back('\n');
  }
  return write_all(standard_output, out.view()) ? exit_ended : exit_failed;
}

// --- following

/// Writes records as lines to stdout.
class Output {
 public:
  explicit Output(const Wishes& wishes)
      : json_{wishes.json},
        colors_{},
        colored_{use_color(wishes.color, standard_output)},
        text_{wishes.pattern, colored_ ? &colors_ : nullptr} {}

  void put_line(std::string_view json) {
    if (json_) {
      out_.append(json);
    } else {
      LogRecord record;
      if (!reader_->read(json, record)) return;
      text_.append(record, out_);
    }
    end_line();
  }
  void put_lost(std::uint64_t count) {
    LogRecord record;
    record.time = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
    record.level = Level::warn;
    record.origin = Origin::lifecycle;
    record.message = fmt::format("{} record{} of the pool were lost here: this tail was slower than the log",
                                 count, count == 1 ? "" : "s");
    if (json_)
      JsonFormatter{}.append(record, out_);
    else
      text_.append(record, out_);
    end_line();
  }
  /// False: the reader of this program's output has gone.
  bool flush() {
    const bool written = write_all(standard_output, out_.view());
    out_.clear();
    out_.shrink(1 << 20);
    return written;
  }

 private:
  void end_line() {
    out_.push_back('\n');
    if (out_.size() > 64 * 1024 && !flush()) throw Stop{exit_ended, {}};
  }

  bool json_;
  LevelColors colors_;
  bool colored_;
  PatternFormatter text_;
  std::unique_ptr<RecordReader> reader_ = make_json_reader();
  TextBuffer out_;
};

int follow(const DoorPool& pool, const Wishes& wishes) {
  Output output{wishes};  // a bad pattern is told before anything else
  ask_pool(pool, wishes.request);
  PoolAnswers answers{pool.socket};
  for (;;) {
    const auto answer = answers.next({}, [&] {
      if (!output.flush()) throw Stop{exit_ended, {}};
    });
    if (!answer) break;
    switch (answer->empty() ? '\0' : answer->front()) {
      case '{': output.put_line(*answer); break;
      case tail_answer::lost: output.put_lost(number_in<std::uint64_t>(answer->substr(2)).value_or(0)); break;
      case tail_answer::refused: throw Stop{exit_failed, fmt::format("refused: {}", answer->substr(2))};
      case tail_answer::done:
        if (!output.flush()) return exit_ended;
        if (wishes.request.ask == TailRequest::set_level)
          throw Stop{exit_ended, fmt::format("the level in the pool of pid {} is set to {}", pool.pid,
                                             to_string(wishes.request.level))};
        return exit_ended;
      case tail_answer::end:
        static_cast<void>(output.flush());
        throw Stop{exit_ended, fmt::format("the pool of pid {} has ended", pool.pid)};
      default: break;
    }
  }
  static_cast<void>(output.flush());
  throw Stop{
      exit_failed,
      fmt::format(
          "the connection to pid {} is lost: it has died, or has ended while this tail was too slow for its last lines",
          pool.pid)};
}

int run(std::vector<std::string> words) {
  const Wishes wishes = read_arguments(std::move(words));
  const PoolChoice& choice = wishes.choice;
  auto pools = find_pools();
  std::erase_if(pools, [&](const DoorPool& pool) {
    return (choice.pid && pool.pid != *choice.pid) ||
           (!choice.serial.empty() && pool.serial != choice.serial);
  });
  if (pools.empty()) throw Stop{exit_failed, words_for_no_pool(choice)};
  if (!choice.pid) return list(pools);
  if (pools.size() > 1) {
    std::string choices;
    for (const auto& pool : pools)
      choices += fmt::format("{}{}/{}", choices.empty() ? "" : ", ", pool.pid, pool.serial);
    throw Stop{exit_usage,
               fmt::format("pid {} has {} pools; say which: {}", *choice.pid, pools.size(), choices)};
  }
  return follow(pools.front(), wishes);
}

}  // namespace

int main(int argc, char** argv) { return run_program("kindred-tail", argc, argv, run); }
