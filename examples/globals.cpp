// What happens to a global variable: each worker has its own. Where it begins depends on the start method,
// and what a task writes to it stays in that worker. What all shall see is passed, returned, or shared.
//
// expect: fork: a worker found 'set in main'
// expect: spawn: a worker found 'as compiled'
// expect: forkserver: a worker found 'as compiled'
// expect: forkserver with a preload: a worker found 'set by the preload'
// expect: the parent still has 'set in main'
// expect: an initializer set it in each worker: 'set by the initializer'
// expect: shared counter: 3
#include <cstdio>
#include <string>

#include <kindred/kindred.hpp>

std::string mode = "as compiled";

std::string read_mode() { return mode; }
void set_mode(const std::string& text) { mode = text; }
void count(const kindred::Counter& counter) { ++counter; }

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  mode = "set in main";  // a worker that is executed anew never comes here: Entry keeps it

  using kindred::StartMethod;
  for (const StartMethod method : {StartMethod::fork, StartMethod::spawn, StartMethod::forkserver}) {
    kindred::ProcessPoolExecutor pool{entry, {.start_method = method, .max_workers = 1}};
    std::printf("%s: a worker found '%s'\n", std::string{to_string(method)}.c_str(),
                pool.submit(read_mode).get().c_str());
    pool.submit(set_mode, "set by a task").get();  // in that worker, and in no other process
  }
  {
    kindred::ProcessPoolExecutor pool{entry,
                                      {.start_method = StartMethod::forkserver,
                                       .max_workers = 1,
                                       .preload = {{set_mode, "set by the preload"}}}};
    std::printf("forkserver with a preload: a worker found '%s'\n", pool.submit(read_mode).get().c_str());
  }
  std::printf("the parent still has '%s'\n", mode.c_str());

  kindred::ProcessPoolExecutor pool{entry,
                                    {.max_workers = 2, .initializer = {set_mode, "set by the initializer"}}};
  std::printf("an initializer set it in each worker: '%s'\n", pool.submit(read_mode).get().c_str());
  const auto counter = pool.make_counter();
  for (int i = 0; i < 3; ++i) pool.submit(count, counter).get();
  std::printf("shared counter: %d\n", static_cast<int>(counter.load()));
}
