// Programs whose worker gate is not where it should be: misplaced_gate METHOD, and in MISPLACED:
//   global          the pool is a global variable, and the Entry is made of arguments of the program's own
//   own_arguments   the same in main
//   late            main looks at its arguments, and ends, before it makes the Entry
//   nothing         all is well
// Each process of it says "begun", and one that passed the gate as a program says "in main".
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include <unistd.h>

#include "kindred/kindred.hpp"

namespace {

void say(const char* text) { static_cast<void>(!::write(1, text, std::strlen(text))); }
int twice(int value) { return 2 * value; }

std::string misplaced() {
  const char* const value = std::getenv("MISPLACED");
  return value == nullptr ? "nothing" : value;
}

char name[] = "a-name-of-my-own";
char* own_arguments[] = {name, nullptr};

int use(kindred::Entry& entry, kindred::StartMethod method) {
  try {
    kindred::ProcessPoolExecutor pool{entry, {.start_method = method, .max_workers = 3}};
    pool.logger().add_sink([](const kindred::LogRecord&) {});
    auto one = pool.submit(twice, 1), two = pool.submit(twice, 2), three = pool.submit(twice, 3);
    say(("result " + std::to_string(one.get() + two.get() + three.get()) + "\n").c_str());
    return 0;
  } catch (const kindred::Error& error) {
    say((std::string{"error: "} + error.what() + "\n").c_str());
    return 1;
  }
}

const bool has_begun = [] {
  say("begun\n");
  return true;
}();
const bool was_global = [] {
  if (misplaced() != "global") return false;
  kindred::Entry entry{1, own_arguments};
  std::exit(use(entry, kindred::default_start_method()));
}();

}  // namespace

int main(int argc, char** argv) {
  if (misplaced() == "late" && argc > 1 && std::string{argv[1]}.starts_with("--"))
    return 64;  // as a program does that does not know the option
  const bool own = misplaced() == "own_arguments";
  kindred::Entry entry{own ? 1 : argc, own ? own_arguments : argv};
  say("in main\n");
  return use(entry, argc > 1 ? kindred::parse_start_method(argv[1]) : kindred::default_start_method());
}
