// Programs as workers are made of them: with the gate in the wrong place or forged, replaced while they run,
// stripped, with libraries that come late or change, with OpenMP.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

constexpr int cannot_be_tried = 77;
void meet(const Barrier& barrier) { (void)barrier.arrive_and_wait(); }

int count(const std::string& text, const std::string& part) {
  int times = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++times;
  return times;
}

// A copy of the victim and its library, which may be changed while it runs.
class MovingParts {
 public:
  MovingParts() {
    place(victim("moving_parts"), program());
    place(victim("part_1/libpart.so"), library());
  }
  [[nodiscard]] std::string program() const { return folder_ / "moving_parts"; }
  [[nodiscard]] std::string library() const { return folder_ / "libpart.so"; }
  [[nodiscard]] std::string plugin() const { return folder_ / "libplugin.so"; }
  static std::string other_build() { return victim("part_2/libpart.so"); }
  static void place(const std::string& from, const std::string& to) {
    std::error_code elsewhere;
    std::filesystem::create_hard_link(from, to, elsewhere);
    if (elsewhere) std::filesystem::copy_file(from, to);
  }
  // As package managers do it: another inode under the old name.
  static void replace(const std::string& with, const std::string& file) {
    place(with, file + ".new");
    std::filesystem::rename(file + ".new", file);
  }
  [[nodiscard]] std::vector<std::string> build_ids(const std::string& text) const {
    static const std::regex id{"[0-9a-f]{40}"};
    return {std::sregex_token_iterator{text.begin(), text.end(), id}, std::sregex_token_iterator{}};
  }

 private:
  TemporaryFolder folder_;
};

void check_two_builds(const MovingParts& parts, const std::string& line, const std::string& file) {
  CHECK_CONTAINS(line, "error: ");
  CHECK_CONTAINS(line, file);
  CHECK_CONTAINS(line, "estart the program");
  const auto ids = parts.build_ids(line);
  CHECK_MESSAGE(std::set<std::string>(ids.begin(), ids.end()).size() == 2, line);
}

std::vector<std::string> forged(std::vector<std::string> environment = {}) {
  environment.push_back("KINDRED_GATE=3");
  return environment;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a program whose gate is misplaced gets an error that says so, and no fork bomb (row 36)") {
  const std::string name{to_string(method)};
  for (const char* where : {"nothing", "global", "own_arguments", "late"}) {
    CAPTURE(std::string{where});
    ResourceAudit audit;
    Program program{victim("misplaced_gate"),
                    {name},
                    {.environment = {"MISPLACED=" + std::string{where}, "KINDRED_START_METHOD=" + name}}};
    const auto outcome = program.wait();
    INFO(to_string(outcome));
    CHECK(program.wait_for_end_of_output(5s));
    if (method == StartMethod::fork ||
        std::string{where} == "nothing") {  // nothing is executed anew, or all is well
      CHECK(outcome.code == 0);
      CHECK_CONTAINS(outcome.out, "result 12");
      CHECK(count(outcome.out, "begun") <= 4);
      continue;
    }
    CHECK(outcome.code == 1);
    CHECK_CONTAINS(outcome.out, "error: ");
    CHECK_CONTAINS(outcome.out, "the pool is broken");
    CHECK_CONTAINS(outcome.out, "before it reached kindred::Entry");
    CHECK_CONTAINS(outcome.out, "Make the Entry first in main, with main's own argc and argv");
    CHECK(count(outcome.out, "in main\n") <= 1);
    CHECK(count(outcome.out, "begun") <= 5);
    if (std::string{where} != "late")
      CHECK_CONTAINS(outcome.err, "kindred::Entry was not given main's own argc and argv");
  }
}

TEST_CASE("what only looks like a worker never runs a task, and says why (row 36)") {
  ResourceAudit audit;
  const auto program = victim("misplaced_gate");
  struct Forgery {
    const char* what;
    std::vector<std::string> arguments;
    bool variable;
    const char* words;
  };
  for (const char* role : {"--kindred-worker", "--kindred-fork-server"}) {
    for (const auto& [what, arguments, variable, words] : {
             Forgery{"argument alone", {role}, false, "but not its environment"},
             Forgery{"variable alone", {"fork"}, true, "was not given main's own argc and argv"},
             Forgery{"both, without a socket", {role}, true, "descriptor 3 is no socket of an executor"},
         }) {
      CAPTURE(std::string{what});
      const auto outcome = run_program("/bin/sh", {"-c", "exec \"$0\" \"$1\" 3<&-", program, arguments[0]},
                                       {.environment = variable ? forged() : std::vector<std::string>{}});
      INFO(to_string(outcome));
      CHECK(outcome.code == 70);
      CHECK_CONTAINS(outcome.err, words);
      CHECK(count(outcome.out, "in main\n") == 0);
    }
    // A socket as an executor's, but not made by the parent.
    const auto outcome = run_forked([&] {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0 || ::dup2(ends[0], 3) != 3)
        throw std::runtime_error{"socketpair"};
      ::setenv("KINDRED_GATE", "3", 1);
      ::execl(program.c_str(), program.c_str(), role, nullptr);
    });
    INFO(to_string(outcome));
    CHECK(outcome.code == 70);
    CHECK_CONTAINS(outcome.err, "which is not its parent");
    CHECK(count(outcome.out, "in main\n") == 0);
  }
}

TEST_CASE_EACH_START_METHOD(
    "a program that gave up its privileges, and whose file its workers may not look at, has workers") {
  const auto outcome = run_forked([method] {
    if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(cannot_be_tried);
    ::prctl(PR_SET_DUMPABLE, 0);
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    const auto met = pool.make_barrier(2);
    auto first = pool.submit(meet, met), second = pool.submit(meet, met);
    first.get();
    second.get();
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("root of this machine may not become nobody");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE_EACH_START_METHOD(
    "nobody can connect to the fork server or to a worker: nothing listens, and nothing has a name") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .start_all = true}};
  // Both are workers by now: one that is being executed still has all that this process has.
  const auto barrier = pool.make_barrier(2);
  auto first = pool.submit(meet, barrier);
  pool.submit(meet, barrier).get();
  first.get();
  std::set<std::string> sockets;
  for (const auto& info : descendants(::getpid())) {
    std::error_code gone;
    for (const auto& file :
         std::filesystem::directory_iterator{"/proc/" + std::to_string(info.pid) + "/fd", gone}) {
      const auto target = std::filesystem::read_symlink(file.path(), gone).string();
      if (target.starts_with("socket:[")) sockets.insert(target.substr(8, target.size() - 9));
    }
  }
  CHECK(sockets.size() >= 2);
  int found = 0;
  std::ifstream file{"/proc/net/unix"};
  for (std::string line; std::getline(file, line);) {
    std::istringstream words{line};
    std::string slot, references, protocol, flags, type, state, inode, path;
    words >> slot >> references >> protocol >> flags >> type >> state >> inode >> path;
    if (!sockets.contains(inode)) continue;
    ++found;
    CHECK_MESSAGE(flags == "00000000", line);  // 00010000: it listens
    CHECK_MESSAGE(path.empty(), line);
  }
  CHECK(found >= 2);
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"}) {
    std::ifstream lines{table};
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words{line};
      std::string word;
      for (int i = 0; i < 10; ++i) words >> word;
      CHECK_MESSAGE(!sockets.contains(word), line);
    }
  }
}

TEST_CASE_EACH_START_METHOD(
    "workers that start after the program's file was replaced or deleted run the program that runs (row 35)") {
  for (const bool replaced : {true, false}) {
    CAPTURE(replaced);
    ResourceAudit audit;
    MovingParts parts;
    Program program{parts.program(), {std::string{to_string(method)}, "run"}};
    CHECK(program.read_line() == "ready");
    if (replaced)
      MovingParts::replace("/bin/false", parts.program());
    else
      std::filesystem::remove(parts.program());
    program.write("go\n");
    CHECK(program.read_line() == "result 42");
    CHECK(program.wait().code == 0);
  }
}

TEST_CASE_EACH_START_METHOD(
    "a library that was replaced while the program ran is refused with both build ids, or was there before (row 35)") {
  ResourceAudit audit;
  MovingParts parts;
  Program program{parts.program(), {std::string{to_string(method)}, "linked"}};
  CHECK(program.read_line() == "ready");
  MovingParts::replace(MovingParts::other_build(), parts.library());
  program.write("go\n");
  const auto line = program.read_line();
  if (method == StartMethod::fork)
    CHECK(line == "result 21");
  else
    check_two_builds(parts, line, parts.library());
  CHECK(program.wait().code == 0);
}

TEST_CASE_EACH_START_METHOD(
    "a library that was deleted while the program ran is an error that tells where to look, or was there before") {
  ResourceAudit audit;
  MovingParts parts;
  Program program{parts.program(), {std::string{to_string(method)}, "linked"}};
  CHECK(program.read_line() == "ready");
  std::filesystem::remove(parts.library());
  program.write("go\n");
  const auto line = program.read_line();
  const auto outcome = program.wait();
  INFO(to_string(outcome));
  CHECK(outcome.code == 0);
  if (method == StartMethod::fork) {
    CHECK(line == "result 21");
    return;
  }
  CHECK_CONTAINS(line, "exited with code 127 before it reached kindred::Entry");
  CHECK_CONTAINS(line, "A shared library of the program is missing");
  CHECK_CONTAINS(outcome.err, "libpart.so");
}

TEST_CASE_EACH_START_METHOD(
    "a function of a library that only the parent has loaded is an error that names it; load_libraries loads it") {
  ResourceAudit audit;
  MovingParts parts;
  MovingParts::place(MovingParts::other_build(), parts.plugin());
  const std::string name{to_string(method)};
  {
    Program program{parts.program(), {name, "plugin", parts.plugin()}};
    CHECK(program.read_line() == "ready");
    program.write("go\n");
    const auto line = program.read_line();
    CHECK_CONTAINS(line, "error: ");
    CHECK_CONTAINS(line, parts.plugin());
    CHECK_CONTAINS(line, "which the parent has loaded and this worker has not");
    CHECK_CONTAINS(line, "WorkerOptions::load_libraries");
    CHECK(program.wait().code == 0);
  }
  {
    Program program{parts.program(), {name, "plugin_load", parts.plugin()}};
    CHECK(program.read_line() == "ready");
    program.write("go\n");
    CHECK(program.read_line() == "result 42");
    CHECK(program.wait().code == 0);
  }
  {
    Program program{parts.program(), {name, "plugin_throw", parts.plugin()}};
    CHECK(program.read_line() == "stack throw_part in " + parts.plugin());
    CHECK(program.read_line() == "ready");
    program.write("go\n");
    CHECK(program.wait().code == 0);
  }
  {
    Program program{parts.program(), {name, "plugin_early", parts.plugin()}};
    CHECK(program.read_line() == "ready");
    program.write("go\n");
    const auto line = program.read_line();
    if (method == StartMethod::fork)
      CHECK(line == "result 42");
    else
      CHECK_CONTAINS(line, parts.plugin() + ", which the parent has loaded and this worker has not");
    CHECK(program.wait().code == 0);
  }
  {
    Program program{parts.program(), {name, "plugin_load", parts.plugin()}};
    CHECK(program.read_line() == "ready");
    std::filesystem::rename(parts.plugin(), parts.plugin() + ".away");
    program.write("go\n");
    CHECK_CONTAINS(program.read_line(),
                   "it is set, but loading failed: " + parts.plugin() + ": cannot open shared object file");
    CHECK(program.wait().code == 0);
    std::filesystem::rename(parts.plugin() + ".away", parts.plugin());
  }
  Program program{parts.program(), {name, "plugin_load", parts.plugin()}};
  CHECK(program.read_line() == "ready");
  MovingParts::replace(victim("part_1/libpart.so"), parts.plugin());
  program.write("go\n");
  check_two_builds(parts, program.read_line(), parts.plugin());
  CHECK(program.wait().code == 0);
}

TEST_CASE_EACH_START_METHOD(
    "a stripped program tells of its failures by type, file and offset, and does not fail itself") {
  ResourceAudit audit;
  MovingParts parts;
  if (run_program("/usr/bin/strip", {"-o", parts.program() + ".new", parts.program()}).code != 0)
    KINDRED_SKIP("no strip");
  std::filesystem::rename(parts.program() + ".new", parts.program());
  for (const char* what : {"fail", "stack"}) {
    Program program{parts.program(), {std::string{to_string(method)}, what}};
    CHECK(program.read_line() == "ready");
    program.write("go\n");
    const auto line = program.read_line();
    CHECK_CONTAINS(line, std::string{what} == "fail" ? "thrown with 5" : "SIGSEGV");
    CHECK_CONTAINS(line, "moving_parts+0x");
    if (std::string{what} == "fail") CHECK_CONTAINS(program.read_line(), "lambda with 6");
    CHECK(program.wait().code == 0);
  }
}

TEST_CASE_EACH_START_METHOD("a worker that uses OpenMP does not freeze where the parent uses it too") {
  ResourceAudit audit;
  for (const char* order : {"pool_first", "pool_after"}) {
    CAPTURE(std::string{order});
    // A fork of threads that wait at OpenMP's barrier is a fork of the barrier alone: the pool comes first
    // there (see bootstrap.md).
    if (method == StartMethod::fork && std::string{order} == "pool_after") continue;
    const auto outcome = run_program(victim("openmp"), {std::string{to_string(method)}, order});
    if (outcome.code == 77)
      KINDRED_SKIP("the compiler has no OpenMP, or a sanitizer does not know its barriers");
    INFO(to_string(outcome));
    CHECK(outcome.code == 0);
    CHECK_CONTAINS(outcome.out, "done");
  }
}
