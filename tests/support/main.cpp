// The main of every test program: the worker gate first, then the watchdog, then doctest.
#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS  // a crash is judged by the watchdog, and workers inherit no handler
                                         // of the tests'

#include "support/test.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kindred/entry.hpp"

// A fork copies the locks of AddressSanitizer's allocator too, and one that another thread held is held in
// the child for ever. As malloc does it, they are taken over the fork; the sanitizers of g++ 14 and clang 17
// do that themselves.
#if defined(__SANITIZE_ADDRESS__) && !defined(__clang__) && __GNUC__ < 14
namespace __lsan {  // NOLINT: libasan's name
[[gnu::weak]] void LockAllocator();
[[gnu::weak]] void UnlockAllocator();
}  // namespace __lsan
namespace {
bool had_threads = false, was_forked_beside_threads = false;
// Before everybody's: the first handler that was registered is the last to run before the fork, and the first
// after it.
[[gnu::constructor(101)]] void hold_allocator_over_forks() {
  if (__lsan::LockAllocator == nullptr || __lsan::UnlockAllocator == nullptr) return;
  ::pthread_atfork(
      [] {
        struct stat threads{};
        had_threads = ::stat("/proc/self/task", &threads) == 0 &&
                      threads.st_nlink > 3;  // "." and "..", and a link for each thread
        __lsan::LockAllocator();
      },
      __lsan::UnlockAllocator,
      [] {
        __lsan::UnlockAllocator();
        was_forked_beside_threads = was_forked_beside_threads || had_threads;
      });
}
}  // namespace
// LeakSanitizer asks. What only a thread of the parent had in its hands, nobody has in the child: that is no
// leak.
extern "C" int __lsan_is_turned_off();  // NOLINT: its name
extern "C" int __lsan_is_turned_off() { return was_forked_beside_threads ? 1 : 0; }
#endif

namespace kindred::test {

/// A test program may have a gate of its own, e.g. for a node of a cluster.
[[gnu::weak]] void pass_further_gates(int argc, char** argv);

namespace {

Entry* the_entry = nullptr;
int results = -1;
std::string skipped;

// One line per event, each in one write: a program that dies in the middle of a case leaves a begin without
// an end.
void note(const std::string& line) {
  if (results >= 0) static_cast<void>(!::write(results, (line + "\n").data(), line.size() + 1));
}

struct CaseListener : doctest::IReporter {
  explicit CaseListener(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData& data) override {
    skipped.clear();
    name_ = data.m_name;
    note("begin " + name_);
    internal::case_begins(name_);
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    internal::case_ends();
    internal::print_rows(name_, stats.testCaseSuccess, skipped);
    if (!stats.testCaseSuccess) {
      note("fail " + name_);
    } else if (!skipped.empty()) {
      note("skip " + name_ + ": " + skipped);
    } else {
      note("pass " + name_);
    }
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  std::string name_;
};
REGISTER_LISTENER("kindred", 1, CaseListener);

int run(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was checked before a process hangs is to be read
  supervise(argc, argv);
#ifdef __SANITIZE_THREAD__
  std::thread{[] {
  }}.join();  // ThreadSanitizer starts a thread of its own with our first: not while an audit looks
#endif
  if (const char* path = std::getenv("KINDRED_TEST_RESULTS")) {
    results = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }
  doctest::Context context{argc, argv};
  context.setOption("no-path-filenames", true);
  return context.run();
}

}  // namespace

Entry& entry() { return *the_entry; }

bool long_run() {
  const char* value = std::getenv("KINDRED_TEST_LONG");
  return value != nullptr && std::string{value} == "1";
}

void skip(const std::string& reason) {
  skipped = reason;
  std::printf("SKIPPED: %s\n", reason.c_str());
}

}  // namespace kindred::test

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::test::the_entry = &entry;
  if (kindred::test::pass_further_gates != nullptr) kindred::test::pass_further_gates(argc, argv);
  return kindred::test::run(argc, argv);
}
