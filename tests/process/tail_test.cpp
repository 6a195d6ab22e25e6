// kindred-tail beside a pool: who sees what, and that nobody is held up.
#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <memory>
#include <mutex>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include <grp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include "kindred/internal/local_socket.hpp"
#include "kindred/internal/tail_request.hpp"
#include "kindred/kindred.hpp"
#include "kindred/read_log.hpp"
#include "support/stop_process.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"
#include "tail/tail_time.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

constexpr const char* tail_program = KINDRED_TEST_TAIL;
constexpr unsigned somebody_else = 65534;

void say(const std::string& text, int times) {
  for (int i = 0; i < times; ++i) log_info("{} {}", text, i);
}
void say_all_kinds() {
  log_info("plain", kv("n", 7));
  log_warn("a warning");
  Logger{"net.http"}.info("named");
  log_info("two\nlines\x1b[31m {}", "\xff\u202e");
}
int say_details() {
  log_debug("detail");
  Logger{"net"}.debug("detail of net");
  return 1;
}
// Sends from `pid`'s worker: only a task that has begun shows which worker it is.
int index_of(Worker& worker) {
  worker.logger().info("in a worker");
  return worker.index();
}

std::string me() { return std::to_string(::getpid()); }

/// A record's time to the nanosecond, as `--since` takes it.
std::string in_utc(decltype(LogRecord::time) time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const std::time_t clock = seconds.time_since_epoch().count();
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", std::gmtime(&clock));
  return fmt::format("{}.{:09}Z", text.data(), (time - seconds).count());
}

/// A tail of this process's only pool.
std::unique_ptr<Program> tail(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), me());
  return std::make_unique<Program>(tail_program, arguments);
}
test::Outcome tail_until_end(const std::vector<std::string>& arguments) {
  return run_program(tail_program, arguments);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}
std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

/// Is this row of the list one of this process's pools? The list has those of all other programs, too.
bool is_ours(const std::string& row) { return row.starts_with(fmt::format("{:7} ", ::getpid())); }

/// Says as another user to a socket what a tail would say, and returns the answer.
std::string ask_as(unsigned uid, const std::string& name, const std::string& request) {
  const auto outcome = run_forked([&] {
    if (uid != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(uid) != 0 || ::setuid(uid) != 0))
      throw std::runtime_error{"cannot become another user"};
    const auto socket = kindred::internal::connect_locally(name);
    std::string answer = socket ? "" : "nobody listens";
    if (socket) static_cast<void>(kindred::internal::send_some(socket.get(), request));
    char bytes[512];
    for (std::ptrdiff_t got = 0;
         socket && (got = ::recv(socket.get(), bytes, sizeof bytes, MSG_DONTWAIT)) != 0;) {
      if (got > 0)
        answer.append(bytes, static_cast<std::size_t>(got));
      else
        static_cast<void>(kindred::internal::wait_for_socket(socket.get(), false, -1, {}));
    }
    static_cast<void>(!::write(2, answer.data(), answer.size()));
  });
  return outcome.err;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a tail shows what is kept and what comes, through each filter, and ends with the pool") {
  ResourceAudit audit;
  auto pool = std::make_unique<ProcessPoolExecutor>(
      entry(), ExecutorOptions{.start_method = method, .max_workers = 2});
  std::string from_the_parent;
  pool->logger().add_sink([&](const LogRecord& record) {
    if (record.message == "from the parent") from_the_parent = in_utc(record.time);
  });
  auto kinds = pool->submit({.name = "kinds"}, say_all_kinds);
  kinds.get();
  pool->logger().info("from the parent");
  const int worker = pool->submit({.name = "index"}, index_of).get();
  CHECK(pool->logger().flush());

  struct Case {
    std::vector<std::string> arguments;
    std::vector<std::string> expected;  // one a line, in order; the last one is said after the tail has come
  };
  const std::string all[] = {"] plain {n=7}",
                             "] a warning",
                             "net.http] named",
                             "two\\nlines\\x1b[31m \\xff\\u202e",
                             "[parent] from the parent",
                             "] in a worker"};
  const std::vector<Case> cases{
      {{"-n", "all"}, {all[0], all[1], all[2], all[3], all[4], all[5], "[parent net.x] the last warning"}},
      {{"--last=2"}, {all[4], all[5], "the last warning"}},
      {{"--last=all", "--level", "warn"}, {all[1], "the last warning"}},
      {{"-n", "all", "--worker", "parent"}, {all[4], "the last warning"}},
      {{"-n", "all", "-w", std::to_string(worker), "--task", "index"}, {all[5]}},
      {{"-n", "all", "--task", std::to_string(kinds.task_id())}, {all[0], all[1], all[2], all[3]}},
      {{"-n", "all", "--worker", "parent", "-w", std::to_string(worker) + ",9", "--task", "index", "-t", "0",
        "--no-follow"},
       {all[4], all[5]}},
      {{"--lines=1", "--no-follow"}, {all[5]}},
      {{"--since", "1 h", "--no-follow"}, {all[0], all[1], all[2], all[3], all[4], all[5]}},
      {{"--since", from_the_parent, "--no-follow"}, {all[4], all[5]}},
      {{"-n", "all", "--text", "warning"}, {all[1], "the last warning"}},
      {{"-n", "all", "--logger", "net"}, {all[2], "the last warning"}},
      {{"-n", "all", "--pattern", "<%l> %v", "--text", "plain"}, {"<info> plain"}},
      {{"-n", "all", "--color=always", "--text", "a warning"}, {"[\x1b[1;33mwarn\x1b[0m] "}},
  };
  std::vector<std::unique_ptr<Program>> tails;
  for (const auto& one : cases) {
    tails.push_back(tail(one.arguments));
    CHECK_CONTAINS(tails.back()->read_line(), one.expected.front());
  }
  pool->logger().named("net.x").warn("the last warning");
  const auto pid = me();
  pool.reset();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    const auto outcome = tails[i]->wait();
    CHECK(outcome.code == 0);
    const bool follows = cases[i].arguments.back() != "--no-follow";
    CHECK(outcome.err == (follows ? "kindred-tail: the pool of pid " + pid + " has ended\n" : ""));
    const auto lines = lines_of(outcome.out);
    CAPTURE(outcome.out);
    REQUIRE(lines.size() == cases[i].expected.size());
    for (std::size_t line = 0; line < lines.size(); ++line)
      CHECK_CONTAINS(lines[line], cases[i].expected[line]);
  }
}

TEST_CASE_EACH_START_METHOD(
    "a level set from another terminal holds in running workers, for those it is meant for") {
  ResourceAudit audit;
  std::mutex mutex;
  std::vector<std::string> seen;
  ProcessPoolExecutor pool{entry(), ExecutorOptions{.start_method = method, .max_workers = 1}};
  pool.logger().add_sink([&](const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    seen.push_back((record.origin == Origin::lifecycle ? "says " : "") + record.message);
  });
  const auto now = [&] {
    CHECK(pool.submit(say_details).get() == 1);
    pool.logger().debug("detail of the parent");
    CHECK(pool.logger().flush());
    const std::scoped_lock lock{mutex};
    return std::exchange(seen, {});
  };
  using Lines = std::vector<std::string>;
  const auto set = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), me());
    return tail_until_end(arguments);
  };
  CHECK(now() == Lines{});
  auto outcome = set({"--set-level", "debug"});
  CHECK(outcome.code == 0);
  CHECK(outcome.err == "kindred-tail: the level in the pool of pid " + me() + " is set to debug\n");
  CHECK(now() == Lines{"says kindred-tail set the level of all loggers to debug", "detail", "detail of net",
                       "detail of the parent"});
  CHECK(set({"--set-level=info", "--worker", "0,parent"}).code == 0);
  CHECK(now() == Lines{"says kindred-tail set the level of worker 0, the parent to info"});
  CHECK(set({"--set-level=trace", "--logger", "net"}).code == 0);
  CHECK(now() ==
        Lines{"says kindred-tail set the level of the loggers below 'net' to trace", "detail of net"});
  CHECK(set({"--set-level=loud"}).code == 2);
  CHECK(set({"--set-level=info", "--logger", "x", "--worker", "1"}).code == 2);
  outcome = set({"--set-level=info", "--logger", std::string(100, 'x')});
  CHECK(outcome.code == 1);
  CHECK_CONTAINS(outcome.err, "a level can be set for names of up to 62");
}

TEST_CASE("since says a moment in the words of journalctl") {
  using kindred::internal::parse_moment;
  constexpr std::int64_t second = 1'000'000'000;
  const std::int64_t now = 1'795'874'591 * second + 5;
  const auto at = [&](std::string_view text) { return parse_moment(text, now); };
  CHECK(at("now") == now);
  CHECK(at("10 min") == now - 600 * second);
  CHECK(at("-10min") == now - 600 * second);
  CHECK(at("1 h 30 min ago") == now - 5400 * second);
  CHECK(at("@17") == 17 * second);
  CHECK(at("2026-11-28T04:03:11.5Z") == 1'795'838'591 * second + second / 2);
  CHECK(at("2026-11-28T04:03:11+02:00") == 1'795'831'391 * second);
  // Local time, whatever the zone of this machine.
  const auto today = at("today");
  REQUIRE(today);
  CHECK(*today <= now);
  CHECK(now - *today <= 25 * 3600 * second);
  CHECK(at("00:00") == today);
  CHECK(at("00:01:30.25") == *today + 90 * second + second / 4);
  CHECK(*at("yesterday") < *today);
  CHECK(at("2026-11-28 00:00") == at("2026-11-28"));
  for (const auto* const text : {"", "soon", "25:00", "12", "2026-13-01", "2026-11-28 12", "-", "@", "@x",
                                 "2026-11-28T04:03:11+02:00 ", "00:00:00.", "999999999999 years"}) {
    CAPTURE(text);
    CHECK((std::string_view{text}.ends_with(' ') || !at(text)));
  }
}

TEST_CASE("what is asked for at the door beside the log is answered there, and nothing else") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.max_workers = 1}};
  pool.submit(number, 1).get();
  const auto names =
      kindred::internal::local_names("kindred/" + std::to_string(::geteuid()) + "/" + me() + "/");
  REQUIRE(names.size() == 1);
  CHECK(ask_as(0, names[0], "kindred-tail/2 ask=weather every=5\n") ==
        "r this pool has no answer to 'weather'\n");
  CHECK_CONTAINS(ask_as(0, names[0], "kindred-tail/2 ask=records every=5\n"), "makes no sense");
}

TEST_CASE("what a tail writes as JSON is what the JSON sink writes, byte by byte") {
  ResourceAudit audit;
  TemporaryFolder folder;
  std::unique_ptr<Program> follower;
  {
    ProcessPoolExecutor pool{entry(), {.max_workers = 1, .log = {.block_limit = 1h}}};
    pool.logger().add_sink([](const LogRecord&) {});
    pool.submit(number, 1).get();
    pool.logger().info("first");
    CHECK(pool.logger().flush());
    pool.logger().add_sink(sinks::json(folder / "log.json"));
    follower = tail({"--json", "-n", "all"});
    CHECK_CONTAINS(follower->read_line(), "\"first\"");
    pool.submit(say_all_kinds).get();
    pool.submit(say, std::string(100'000, 'x') + '\0' + "\xfe", 3).get();
    while (!contains(follower->read_line(), "\\ufffd 2\"")) {}
  }
  const auto outcome = follower->wait();
  CHECK(outcome.code == 0);
  std::string expected = read_file(folder / "log.json");
  CHECK(count(expected, ",\"start_method\":\"" + std::string{to_string(default_start_method())} + "\"") ==
        count(expected, "\n"));
  // Which start method the pool has is the sink's to say; a tail says it in its list.
  expected = std::regex_replace(expected, std::regex{",\"start_method\":\"[a-z]*\""}, "");
  CHECK(count(expected, "\n") >= 7);
  CHECK((outcome.out.substr(outcome.out.find('\n') + 1) == expected));
  write_file(folder / "tail.json", outcome.out);
  std::size_t read = 0;
  for (const auto& record : read_log(folder / "tail.json", {.strict = true}))
    read += record.message == std::string(100'000, 'x') + '\0' + "\xfe 2" ? 1U : 0U;
  CHECK(read == 1);
}

TEST_CASE("a stopped tail holds nobody up, loses the oldest, and says exactly how many") {
  ResourceAudit audit;
  constexpr int lines = 50'000;
  ProcessPoolExecutor pool{entry(), {.max_workers = 2, .log = {.block_limit = 1h, .keep_bytes = 256 * 1024}}};
  std::size_t delivered = 0;  // the collector's thread's, read after the flush
  pool.logger().add_sink([&](const LogRecord&) { ++delivered; });
  pool.submit(say, "before", 1).get();
  CHECK(pool.logger().flush());
  const auto slow = tail({"-n", "all"});
  CHECK_CONTAINS(slow->read_line(), "before 0");
  stop_process(slow->pid());
  auto one = pool.submit(say, "one", lines), two = pool.submit(say, "two", lines);
  one.get();
  two.get();
  CHECK(pool.logger().flush());
  const auto stats = pool.stats().log;
  CHECK(stats.dropped == 0);
  CHECK(delivered == 2 * lines + 1);
  slow->signal(SIGCONT);
  pool.logger().info("the last");
  std::uint64_t lost = 0;
  std::uint64_t shown = 1;
  for (std::string line; !contains(line, "the last");) {
    line = slow->read_line();
    std::smatch match;
    if (std::regex_search(
            line, match,
            std::regex{
                "\\[warn\\] \\[parent <lifecycle>\\] ([0-9]+) records? of the pool (was|were) lost here"}))
      lost += std::stoull(match[1]);
    else
      ++shown;
  }
  CHECK(lost > 0);
  CHECK(shown + lost == 2 * lines + 2);
}

TEST_CASE("a stopped tail does not keep a pool from its end, and is told that it missed it") {
  ResourceAudit audit;
  std::unique_ptr<Program> stopped;
  std::chrono::steady_clock::time_point begun;
  {
    ProcessPoolExecutor pool{entry(), {.max_workers = 1}};
    pool.logger().add_sink([](const LogRecord&) {});
    pool.submit(say, "before", 1).get();
    CHECK(pool.logger().flush());
    stopped = tail({"-n", "all"});
    CHECK_CONTAINS(stopped->read_line(), "before 0");
    stop_process(stopped->pid());
    pool.submit(say, std::string(1000, 'x'), 2000).get();
    CHECK(pool.logger().flush());
    begun = std::chrono::steady_clock::now();
  }
  CHECK(std::chrono::steady_clock::now() - begun < 10s);
  stopped->signal(SIGCONT);
  const auto outcome = stopped->wait();
  CHECK(outcome.code == 1);
  CHECK_CONTAINS(outcome.err, "is lost");
}

TEST_CASE_EACH_START_METHOD("a tail of a process that is killed says so, and its end") {
  Program victim_program{victim("orphaned_pool"), {std::string{to_string(method)}, "respawning"}};
  CHECK(victim_program.read_line() == "ready");
  Program follower{tail_program, {std::to_string(victim_program.pid()), "-n", "all"}};
  CHECK_CONTAINS(follower.read_line(), "SIGKILL");
  victim_program.signal(SIGKILL);
  const auto outcome = follower.wait();
  CHECK(outcome.code == 1);
  CHECK_CONTAINS(outcome.err, "the connection to pid " + std::to_string(victim_program.pid()) + " is lost");
}

TEST_CASE("the list has this user's pools, from their first worker to their end, where they are offered") {
  ResourceAudit audit;
  const auto listed = [](std::string_view method) {
    auto rows = lines_of(tail_until_end({}).out);
    // A pool has a second to answer. Where others have the machine, too, that may be too little: again.
    const auto is_late = [](const std::string& row) {
      return is_ours(row) && contains(row, "does not answer");
    };
    while (std::ranges::any_of(rows, is_late)) rows = lines_of(tail_until_end({}).out);
    std::size_t found = 0;
    for (const auto& row : rows)
      found += is_ours(row) && contains(row, method) && contains(row, "/tail_test") ? 1U : 0U;
    return found;
  };
  {
    ProcessPoolExecutor one{entry(),
                            {.start_method = StartMethod::fork, .max_workers = 3, .start_all = true}};
    ProcessPoolExecutor two{entry(), {.start_method = StartMethod::spawn, .max_workers = 1}};
    ProcessPoolExecutor hidden{
        entry(), {.start_method = StartMethod::forkserver, .max_workers = 1, .log = {.tail = false}}};
    while (one.worker_pids().size() < 3) std::this_thread::yield();
    hidden.submit(number, 1).get();
    CHECK(listed("fork  ") == 1);
    CHECK(listed("fork                3") == 1);
    CHECK(listed("spawn") == 0);
    CHECK(listed("forkserver") == 0);
    two.submit(number, 1).get();
    CHECK(listed("spawn               1") == 1);
    const auto which = tail_until_end({me()});
    CHECK(which.code == 2);
    std::smatch match;
    REQUIRE(std::regex_search(
        which.err, match,
        std::regex{"has 2 pools; say which: " + me() + "/([0-9]+), " + me() + "/([0-9]+)"}));
    one.logger().info("of one");
    two.logger().info("of two");
    Program of_two{tail_program, {me() + "/" + std::string{match[2]}, "--worker=parent"}};
    CHECK_CONTAINS(of_two.read_line(), "of two");
    of_two.signal(SIGTERM);
    CHECK(of_two.wait().signal == SIGTERM);
  }
  CHECK(listed("") == 0);
  const auto none = tail_until_end({me()});
  CHECK(none.code == 1);
  CHECK_CONTAINS(none.err, "offers no pool");
}

TEST_CASE("a stopped program is listed as one that does not answer") {
  Program victim_program{victim("orphaned_pool"), {"fork", "idle"}};
  CHECK(victim_program.read_line() == "ready");
  stop_process(victim_program.pid());
  const auto outcome = tail_until_end({});
  CHECK(std::regex_search(outcome.out,
                          std::regex{std::to_string(victim_program.pid()) + " +[0-9]+  does not answer"}));
}

TEST_CASE("other users are refused, the log says so once, and who knocks for ever shuts the door") {
  if (::geteuid() != 0) KINDRED_SKIP("needs root, to become another user");
  ResourceAudit audit;
  std::mutex mutex;
  std::vector<std::string> all_warnings;
  const auto warnings_now = [&] {
    const std::scoped_lock lock{mutex};
    return all_warnings;
  };
  ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::fork, .max_workers = 1}};
  pool.logger().add_sink([&](const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    if (record.level >= Level::warn) all_warnings.push_back(record.message);
  });
  pool.submit(number, 1).get();
  pool.logger().info("a secret");
  CHECK(pool.logger().flush());
  const auto names = kindred::internal::local_names("kindred/0/" + me() + "/");
  REQUIRE(names.size() == 1);
  const std::string request = kindred::internal::TailRequest{.last = 1000}.to_line();
  CHECK(ask_as(somebody_else, names[0], request) ==
        "r this pool is of user 0; only that user and root may follow it\n");
  CHECK(ask_as(somebody_else, names[0], kindred::internal::TailRequest{.ask = "facts"}.to_line()) ==
        "r this pool is of user 0; only that user and root may follow it\n");
  CHECK(pool.logger().flush());
  auto warnings = warnings_now();
  REQUIRE(warnings.size() == 1);
  CHECK_CONTAINS(warnings[0], "kindred-tail of user 65534 (pid ");
  CHECK_CONTAINS(ask_as(0, names[0], kindred::internal::TailRequest{.ask = "facts"}.to_line()),
                 "start_method=fork workers=1");
  const auto outcome = run_forked([&] {
    if (::setgroups(0, nullptr) != 0 || ::setgid(somebody_else) != 0 || ::setuid(somebody_else) != 0)
      throw std::runtime_error{"cannot become another user"};
    ::close_range(3, ~0U, 0);  // the door is inherited, too: while it is open here, who knocks after it was
                               // shut there would wait for ever
    for (int i = 0; i < 1000; ++i) {
      const auto socket = kindred::internal::connect_locally(names[0]);
      char byte;
      while (socket && kindred::internal::receive_some(socket.get(), &byte, 1) == -EAGAIN)
        static_cast<void>(kindred::internal::wait_for_socket(socket.get(), false, -1, {}));
    }
  });
  INFO(to_string(outcome));
  CHECK(outcome.code == 0);
  while (kindred::internal::connect_locally(names[0])) std::this_thread::yield();
  CHECK(pool.submit(number, 2).get() == 2);
  // The door is shut before the log says so.
  while (warnings_now().size() < 2) CHECK(pool.logger().flush());
  warnings = warnings_now();
  REQUIRE(warnings.size() == 2);
  CHECK_CONTAINS(warnings[1], "not offered any more");
}

TEST_CASE("root may follow the pool of a user, and a name that another user has taken is not believed") {
  if (::geteuid() != 0) KINDRED_SKIP("needs root, to become another user");
  ResourceAudit audit;
  REQUIRE(::seteuid(somebody_else) == 0);
  {
    ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::fork, .max_workers = 1}};
    pool.submit(number, 1).get();
    REQUIRE(::seteuid(0) == 0);
    pool.logger().info("of a user");
    CHECK(pool.logger().flush());
    const auto follower = tail({});
    CHECK_CONTAINS(follower->read_line(), "of a user");
    // Of two that listen under names of this process and user, one is root's.
    const auto taken = kindred::internal::listen_locally(
        kindred::internal::tail_name(somebody_else, static_cast<std::uint32_t>(::getpid()), 4711));
    const auto rows = lines_of(tail_until_end({}).out);
    CHECK(std::ranges::count_if(rows, is_ours) == 1);
    const auto row_of_taken = fmt::format("{:7} {:>4} ", ::getpid(), 4711);
    for (const auto& row : rows) CHECK_FALSE(row.starts_with(row_of_taken));
  }
  REQUIRE(::seteuid(0) == 0);
}

TEST_CASE("a pool that is followed and has nothing to say sleeps, and so does its tail's thread") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.max_workers = 1}};
  pool.logger().add_sink([](const LogRecord&) {});
  pool.submit(say, "before", 1).get();
  CHECK(pool.logger().flush());
  const auto follower = tail({"-n", "all"});
  CHECK_CONTAINS(follower->read_line(), "before 0");
  // Quiet is reached when a quarter of a second brings nothing new; how soon, the machine decides.
  const auto wakeups = [&] {
    const auto stats = pool.stats();
    return stats.supervisor_wakeups + stats.log.wakeups;
  };
  bool quiet = false;
  auto before = wakeups();
  for (int i = 0; i < 40 && !quiet; ++i) {
    std::this_thread::sleep_for(250ms);
    const auto now = wakeups();
    quiet = now == before;
    before = now;
  }
  CHECK(quiet);
}

TEST_CASE("nonsense, silence and haste at the socket harm nobody") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.max_workers = 1}};
  pool.submit(number, 1).get();
  const auto names =
      kindred::internal::local_names("kindred/" + std::to_string(::geteuid()) + "/" + me() + "/");
  REQUIRE(names.size() == 1);
  CHECK_CONTAINS(ask_as(0, names[0], "GET / HTTP/1.1\r\n"), "makes no sense");
  CHECK_CONTAINS(ask_as(0, names[0], "kindred-tail/2 level=loud\n"), "makes no sense");
  CHECK_CONTAINS(ask_as(0, names[0], "kindred-tail/2 worker=99999999999\n"), "makes no sense");
  CHECK_CONTAINS(ask_as(0, names[0], std::string(100'000, 'x')), "makes no sense");
  {
    std::vector<kindred::internal::Descriptor> silent;
    for (int i = 0; i < 20; ++i) silent.push_back(kindred::internal::connect_locally(names[0]));
    CHECK(pool.submit(number, 2).get() == 2);
  }
  // Those went away without a word: their threads end, and there is room again.
  std::string answer;
  do answer = ask_as(0, names[0], kindred::internal::TailRequest{.ask = "facts"}.to_line());
  while (contains(answer, "as many as may be"));
  CHECK_CONTAINS(answer, "workers=1");
}

TEST_CASE("users without a number in a user namespace are not taken for one another") {
  const auto outcome = run_forked([] {
    std::array<int, 2> pair{};
    if (::unshare(CLONE_NEWUSER) != 0 || ::geteuid() != 65534) ::_exit(77);
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()) != 0) ::_exit(3);
    if (kindred::internal::peer_of(pair[0])) ::_exit(4);
  });
  if (outcome.code == 77) KINDRED_SKIP("no user namespace can be made here");
  CHECK(outcome.code == 0);
  std::array<int, 2> pair{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
  const kindred::internal::Descriptor here{pair[0]}, there{pair[1]};
  const auto peer = kindred::internal::peer_of(pair[0]);
  REQUIRE(peer);
  CHECK(peer->uid == ::geteuid());
}

TEST_CASE("who knocks where many wait waits, too, and is let in") {
  ResourceAudit audit;
  const auto name = "kindred-test/" + me();
  const auto listener = kindred::internal::listen_locally(name);
  constexpr int all = 60;  // the queue has room for 17
  std::jthread doorman{[&] {
    for (int let_in = 0; let_in < all;) {
      std::this_thread::sleep_for(1ms);
      if (kindred::internal::accept_locally(listener.get())) ++let_in;
    }
  }};
  for (int i = 0; i < all; ++i) REQUIRE(kindred::internal::connect_locally(name));
}

TEST_CASE("a request survives its turn through a line, whatever it asks for") {
  kindred::internal::TailRequest request{.ask = "a word",
                                         .follow = false,
                                         .level = Level::error,
                                         .workers = {-1, 3},
                                         .task_ids = {18'000'000'000, 0},
                                         .task_names = {"a \"b\" = \n\xff", "12"},
                                         .logger = "true",
                                         .text = "12",
                                         .since = -1,
                                         .last = 0,
                                         .others = {{"every", std::int64_t{5}}}};
  const auto line = request.to_line();
  CHECK(count(line, "\n") == 1);
  const auto parsed =
      kindred::internal::TailRequest::parse(std::string_view{line}.substr(0, line.size() - 1));
  REQUIRE(parsed);
  CHECK_FALSE(parsed->follow);
  CHECK(parsed->level == Level::error);
  CHECK(parsed->ask == "a word");
  CHECK(parsed->workers == request.workers);
  CHECK(parsed->task_ids == request.task_ids);
  CHECK((parsed->task_names == request.task_names));
  CHECK(parsed->since == -1);
  REQUIRE(parsed->others.size() == 1);
  CHECK(parsed->others[0].key == "every");
  CHECK(parsed->logger == "true");
  CHECK(parsed->text == "12");
  CHECK(parsed->last == 0);
}

TEST_CASE("help fits a terminal of 80 columns") {
  const auto rows = lines_of(tail_until_end({"--help"}).out);
  CHECK(rows.size() > 20);
  for (const auto& row : rows) CHECK_MESSAGE(row.size() <= 80, row);
}

TEST_CASE("values are taken as they are written, before and behind the process") {
  ProcessPoolExecutor pool{entry(), {.max_workers = 1}};
  const auto pid = me();
  for (const char* text : {"[a, b]", "[[aa]]", "]].", "{}", "-x", "--json", "a=b", "%%"})
    pool.logger().info("said {}", text);
  pool.submit(say_details).get();
  CHECK(pool.logger().flush());
  const auto says = [&](std::vector<std::string> arguments, const std::string& text) {
    arguments.insert(arguments.begin(), {"--no-follow", "--lines=all", "--pattern", "{}[%v]"});
    const auto outcome = tail_until_end(arguments);
    CHECK(outcome.out == text);
  };
  says({pid, "--text", "[a, b]"}, "{}[said [a, b]]\n");
  says({"--text=[[aa]]", pid}, "{}[said [[aa]]]\n");
  says({"--text=]].", pid}, "{}[said ]].]\n");
  says({"--text", "{}", "-l", "info", pid}, "{}[said {}]\n");
  says({"--text", "-x", "-linfo", pid}, "{}[said -x]\n");
  says({"--text", "--json", "-w", "parent", pid}, "{}[said --json]\n");
  says({"--text=a=b", "--worker", "parent,0", "--worker=0", "--", pid}, "{}[said a=b]\n");
  says({"--text", "nothing else", "--text", "%%", "--worker", "parent", pid}, "{}[said %%]\n");
}

TEST_CASE("wrong usage is told with the option and its range") {
  const auto says = [](const std::vector<std::string>& arguments, int code, const std::string& text) {
    const auto outcome = tail_until_end(arguments);
    CHECK(outcome.code == code);
    CHECK_CONTAINS(outcome.out + outcome.err, text);
  };
  says({"--help"}, 0, "kindred-tail PID [OPTION...]");
  says({"12x"}, 2, "'12x' is no process id");
  says({"--level", "loud"}, 2, "loud");
  says({"--worker=-7"}, 2, "it must be an index, or parent");
  says({"--last", "few"}, 2, "it must be a number, or all");
  says({"--colour"}, 2, "'--colour' is no option");
  says({"--text"}, 2, "--text needs a value");
  says({"--text=", "1"}, 2, "--text= has no value");
  says({"--json=3"}, 2, "--json takes no value");
  says({"1", "2"}, 2, "'2' is one argument too many");
  says({"--color=green"}, 2, "auto, always or never");
}
