// Compiled without optimisation, where each call has its frame: a task that crashes behind two functions, as
// a function and as a lambda. Says the stack of each, and then the message of the last.
#include <csignal>
#include <cstdio>

#include <kindred/kindred.hpp>

namespace {

int inner(int value) {
  *reinterpret_cast<volatile int*>(static_cast<std::uintptr_t>(value)) = 1;
  return value;
}
int outer(int value) { return inner(value) + 1; }

template <class F>
void show(kindred::ProcessPoolExecutor& pool, F task, bool whole) {
  try {
    (void)pool.submit(task, 16).get();
  } catch (const kindred::WorkerLost& lost) {
    std::printf("stack:\n%s\nend\n", lost.backtrace().c_str());
    if (whole) std::printf("%s\n", lost.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1, .log = {.level = kindred::Level::off}}};
  show(pool, outer, false);
  show(pool, [](int value) { return outer(value) + 1; }, true);
}
