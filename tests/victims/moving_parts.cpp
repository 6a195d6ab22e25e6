// A program whose file, or a library of which, is changed while it runs: moving_parts METHOD WHAT [LIBRARY].
// Says "ready", waits for a line, then says "result NUMBER" or "error: TEXT".
//   run      a function of the program          linked   one that calls the library that it is linked with
//   fail     a function and a lambda that throw  stack    one that crashes
//   plugin, plugin_load   a function of LIBRARY, loaded when the first worker runs already; the second with
//   load_libraries plugin_early          the same, loaded before there is a pool plugin_throw          as
//   plugin_load, another function, which throws: says "stack TEXT"
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>

#include <dlfcn.h>

#include "kindred/kindred.hpp"

extern "C" int part_number();

namespace {

int twice(int value) { return 2 * value; }
int linked(int value) { return value * part_number(); }
int throws(int value) { throw std::runtime_error{"thrown with " + std::to_string(value)}; }
int crashes(int value) {
  ::raise(SIGSEGV);
  return value;
}

void say(const std::string& text) {
  std::puts(text.c_str());
  std::fflush(stdout);
}
void wait_for_a_line() {
  char line[16];
  if (std::fgets(line, sizeof line, stdin) == nullptr) std::_Exit(3);
}
using Function = int (*)(int);
Function load(const char* path, const char* function = "times_part") {
  void* const library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error{::dlerror()};
  return reinterpret_cast<Function>(::dlsym(library, function));
}

template <class... Args>
void try_out(kindred::ProcessPoolExecutor& pool, const Args&... args) {
  try {
    say("result " + std::to_string(pool.submit(args...).get()));
  } catch (const std::exception& error) {
    std::string text = error.what();
    for (char& c : text) c = c == '\n' ? ' ' : c;
    say("error: " + text);
  }
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 3) return 2;
  const std::string what{argv[2]};
  Function function = nullptr;
  if (what == "plugin_early") function = load(argv[3]);
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = kindred::parse_start_method(argv[1]),
       .max_workers = 1,
       .worker = {.load_libraries = what == "plugin_load" || what == "plugin_throw"}}};
  pool.logger().add_sink([](const kindred::LogRecord&) {});
  if (what == "plugin" || what == "plugin_load") {
    pool.submit(twice, 1).get();
    function = load(argv[3]);
  }
  if (what == "plugin_throw") {
    pool.submit(twice, 1).get();
    try {
      pool.submit(load(argv[3], "throw_part"), 21).get();
    } catch (const kindred::TaskError& error) {
      say("stack " + error.backtrace());
    }
  }
  say("ready");
  wait_for_a_line();
  if (what == "run") try_out(pool, twice, 21);
  if (what == "linked") try_out(pool, linked, 21);
  if (what == "fail") {
    try_out(pool, throws, 5);
    try_out(
        pool, [](int value) -> int { throw std::runtime_error{"lambda with " + std::to_string(value)}; }, 6);
  }
  if (what == "stack") try_out(pool, crashes, 1);
  if (function != nullptr) try_out(pool, function, 21);
}
