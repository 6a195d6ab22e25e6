// kindred-tail: follows the log of a pool from another terminal. doc/tail.md is its page.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/internal/color.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/local_socket.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"
#include "kindred/internal/tail_client.hpp"
#include "kindred/internal/tail_request.hpp"
#include "tail/tail_time.hpp"

namespace {

using namespace kindred;
using namespace kindred::internal;
using namespace std::chrono_literals;

constexpr int standard_output = 1;
constexpr int standard_error = 2;
enum Exit : int { exit_ended = 0, exit_failed = 1, exit_usage = 2 };

constexpr std::string_view usage =
    R"(kindred-tail                      lists the pools of this user (root: of all users)
kindred-tail PID [OPTION...]      follows the log of the pool of that process until the pool ends
kindred-tail PID/N [OPTION...]    the same where the process has several pools: N as the list has it

What to show (each filter must be met; --worker and --task may be repeated, or have a list: 0,2)
  -l, --level LEVEL     records of that level and above: trace, debug, info, warn, error, critical
  -w, --worker INDEX    records of these workers; "parent" is the program itself
  -t, --task ID|NAME    records of these tasks, or of tasks of that name
      --logger NAME     records of that logger and those below it
      --text TEXT       records whose message contains the text
  -S, --since WHEN      records since then: "10 min", 14:03, "2026-11-28 14:03:11", today, yesterday
  -n, --lines N|all     begins with the last N that are kept (10; with --since: all). --last is the same
      --no-follow       ends after the records that are kept now

How to show it
      --json            one JSON object a line, as sinks::json writes them
      --pattern P       lines as that pattern makes them
      --color WHEN      auto, always, never

What the pool logs
      --set-level LEVEL sets the level, in force at each thread's next log call; with --worker for these
                        workers, with --logger for loggers below that name. Also "off"
  -h, --help

A tail that is slower than the log loses records and says how many; the pool never waits for it.
Exit status: 0 the pool has ended, or all was shown; 1 there is no pool, or it refused, or it died; 2 wrong
usage.
)";

/// Ends the program with words on stderr.
struct Stop {
  Exit code;
  std::string words;
};

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

// --------------------------------------------------------------------------------------------------------------------------------
// The command line

struct Wishes {
  std::optional<std::uint32_t> pid;
  std::optional<std::string> serial;
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

/// An option with a value: its names, and what reads the value.
struct Option {
  std::string_view brief;
  std::string_view full;
  void (*read)(Wishes& wishes, const std::string& value);
};
constexpr Option options[] = {
    {"-l", "--level", [](Wishes& w, const std::string& value) { w.request.level = parse_level(value); }},
    {"-w", "--worker", read_workers},
    {"-t", "--task", read_tasks},
    {"", "--logger", [](Wishes& w, const std::string& value) { w.request.logger = value; }},
    {"", "--text", [](Wishes& w, const std::string& value) { w.request.text = value; }},
    {"-S", "--since", read_since},
    {"-n", "--lines", read_lines},
    {"", "--last", read_lines},
    {"", "--pattern", [](Wishes& w, const std::string& value) { w.pattern = value; }},
    {"", "--color", read_color},
    {"", "--set-level",
     [](Wishes& w, const std::string& value) {
       w.request.ask = TailRequest::set_level;
       w.request.level = parse_level(value);
     }},
};

void read_pool(Wishes& wishes, const std::string& value) {
  const auto slash = value.find('/');
  wishes.pid = number_in<std::uint32_t>(std::string_view{value}.substr(0, slash));
  if (!wishes.pid) throw Stop{exit_usage, fmt::format("'{}' is no process id", value)};
  if (slash != std::string::npos) wishes.serial = value.substr(slash + 1);
}

Wishes read_arguments(const std::vector<std::string>& arguments) {
  Wishes wishes;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    std::optional<std::string> value;
    if (const auto sign = name.find('='); name.starts_with("--") && sign != std::string::npos) {
      value = name.substr(sign + 1);
      name.resize(sign);
    }
    if (name == "-h" || name == "--help") {
      static_cast<void>(write_all(standard_output, usage));
      throw Stop{exit_ended, {}};
    }
    const auto* const option = std::ranges::find_if(options, [&](const Option& one) {
      return name == one.full || (!one.brief.empty() && name == one.brief);
    });
    if (option != std::end(options)) {
      if (!value) {
        if (i + 1 == arguments.size()) throw Stop{exit_usage, name + " needs a value"};
        value = arguments[++i];
      }
      option->read(wishes, *value);
    } else if (name == "--json" && !value) {
      wishes.json = true;
    } else if ((name == "--follow" || name == "-f" || name == "--no-follow") && !value) {
      wishes.request.follow = name != "--no-follow";
    } else if (!name.starts_with('-') && !wishes.pid) {
      read_pool(wishes, name);
    } else {
      throw Stop{exit_usage, fmt::format("'{}' is no option; see kindred-tail --help", name)};
    }
  }
  wishes.request.last = wishes.last.value_or(wishes.request.since ? TailRequest::all : wishes.request.last);
  if (wishes.request.ask == TailRequest::set_level) {
    if (!wishes.pid) throw Stop{exit_usage, "--set-level needs the process id of a pool"};
    if (!wishes.request.logger.empty() && !wishes.request.workers.empty())
      throw Stop{exit_usage, "--set-level takes --worker or --logger, not both"};
  }
  return wishes;
}

// --------------------------------------------------------------------------------------------------------------------------------
// Pools

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

// --------------------------------------------------------------------------------------------------------------------------------
// Following

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

int run(const std::vector<std::string>& arguments) {
  const Wishes wishes = read_arguments(arguments);
  auto pools = find_pools();
  std::erase_if(pools, [&](const DoorPool& pool) {
    return (wishes.pid && pool.pid != *wishes.pid) || (wishes.serial && pool.serial != *wishes.serial);
  });
  const auto whose = user_id() == 0 ? std::string{"any user"} : fmt::format("user {}", user_id());
  if (pools.empty()) {
    throw Stop{
        exit_failed,
        wishes.pid
            ? fmt::format(
                  "pid {} offers no pool of {} here. A pool is offered from its first worker on, unless LogOptions::tail is off, to "
                  "its own user and root, in its network namespace.",
                  *wishes.pid, whose)
            : fmt::format("no pool of {} is there", whose)};
  }
  if (!wishes.pid) return list(pools);
  if (pools.size() > 1) {
    std::string choices;
    for (const auto& pool : pools)
      choices += fmt::format("{}{}/{}", choices.empty() ? "" : ", ", pool.pid, pool.serial);
    throw Stop{exit_usage,
               fmt::format("pid {} has {} pools; say which: {}", *wishes.pid, pools.size(), choices)};
  }
  return follow(pools.front(), wishes);
}

}  // namespace

int main(int argc, char** argv) {
  Stop stop{exit_failed, {}};
  try {
    return run({argv + 1, argv + argc});
  } catch (Stop& told) {
    stop = std::move(told);
  } catch (const UsageError& error) {
    stop = {exit_usage, error.what()};
  } catch (const std::exception& error) {
    stop.words = error.what();
  }
  TextBuffer line;
  line.append("kindred-tail: ");
  append_escaped(line, stop.words);
  line.push_back('\n');
  if (!stop.words.empty()) static_cast<void>(write_all(standard_error, line.view()));
  return stop.code;
}
