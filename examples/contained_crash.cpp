// A C library with a bug in it, at a distance. Each call is a task; what the library breaks is one worker,
// and only the task that was in it is lost, with the reason, its last log lines and the stack of the crash.
//
// expect: 'abc' -> 294
// expect: bad-2 was lost: its worker was killed by SIGSEGV
// expect: was killed by SIGSEGV while running 'checksum'
// expect: it had said: [info] checksum of bad-2
// expect: bad-4 was lost: its worker was killed by SIGSEGV
// expect: 10 inputs: 8 results, 2 lost, 2 restarts
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <kindred/kindred.hpp>

extern "C" {
// The library. It trusts its input, and writes to a place that is not its own when it gets what it did not
// expect.
unsigned library_checksum(const char* text) {
  if (std::strncmp(text, "bad", 3) == 0) {
    volatile int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  unsigned sum = 0;
  for (; *text != 0; ++text) sum += static_cast<unsigned char>(*text);
  return sum;
}
}

unsigned checksum(const std::string& text) {
  kindred::log_info("checksum of {}", text);
  return library_checksum(text.c_str());
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stdout_color(), {.level = kindred::Level::warn});

  const std::vector<std::string> inputs{"abc", "def", "bad-2", "ghi", "bad-4",
                                        "jkl", "mno", "pqr",   "stu", "vwx"};
  std::vector<kindred::Future<unsigned>> futures;
  for (const auto& input : inputs) futures.push_back(pool.submit(checksum, input));

  std::size_t results = 0, lost = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    try {
      std::printf("'%s' -> %u\n", inputs[i].c_str(), futures[i].get());
      ++results;
    } catch (const kindred::WorkerLost& error) {
      ++lost;
      std::printf("%s was lost: its worker %s\n", inputs[i].c_str(), to_string(error.exit_reason()).c_str());
      if (!error.last_log_lines().empty())
        std::printf("it had said: %s\n", error.last_log_lines().back().c_str());
      std::printf("its stack:\n%s\n", error.backtrace().c_str());
    }
  }
  std::printf("%zu inputs: %zu results, %zu lost, %llu restarts\n", inputs.size(), results, lost,
              static_cast<unsigned long long>(pool.stats().restarts));
}
