// The story that kindred began with. A Python program starts a ProcessPoolExecutor by "spawn" and hands its
// logging set-up to the workers through the initializer. But the logger's queue had been made for "fork": "A
// SemLock created in a fork context is being shared with a process in a spawn context", and the pool is
// broken. The cure there is to remember the same mp_context in both places.
//
// Here the executor owns the one context, its logger works on that same one, and there is no second place to
// get it wrong.
//
// expect: [w0 audit] logging is set up
// expect: [w1 audit] logging is set up
// expect: [debug] [w
// expect: square of 7 {request=42}
// expect: 49
// expect: belongs to context
#include <string>
#include <type_traits>

#include <kindred/kindred.hpp>

// The initializer may configure what is the worker's own: which loggers there are and what they say. Where
// the records go is not for it to say, nor with which semaphore, queue or pipe they travel.
void set_up_logging(const std::string& name) { kindred::get_logger(name).info("logging is set up"); }

int square(int number) {
  const kindred::LogScope scope{{"request", 42}};
  kindred::log_debug("square of {}", number);
  return number * number;
}

void use(const kindred::Semaphore& semaphore) { semaphore.acquire(); }

// The mistake of the story, as far as it can be written: a logger, or a semaphore, on a context that another
// part of the program chose. No public constructor takes one, so none of these compile. (tests/compile_fail
// shows what the compiler says to it.)
static_assert(!std::is_constructible_v<kindred::Logger, kindred::StartMethod>);
static_assert(!std::is_constructible_v<kindred::ExecutorLogger, kindred::StartMethod>);
static_assert(!std::is_constructible_v<kindred::Semaphore, kindred::StartMethod, int>);
// Nor can a logger be sent to a worker, which has one already: submit(use_logger, pool.logger()) is refused
// by the compiler too.
static_assert(!std::is_copy_constructible_v<kindred::ExecutorLogger>);

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor forking{entry, {.start_method = kindred::StartMethod::fork, .max_workers = 1}};
  kindred::ProcessPoolExecutor pool{entry,
                                    {.start_method = kindred::StartMethod::spawn,
                                     .max_workers = 2,
                                     .initializer = {set_up_logging, "audit"},
                                     .log = {.level = kindred::Level::debug},
                                     .start_all = true}};
  pool.logger().add_sink(kindred::sinks::stdout_color());
  pool.logger().info("{}", pool.submit(square, 7).get());

  // What is left of it is a handle that goes astray at run time: made by the pool that forks, sent to a
  // worker of the one that spawns. It is refused here, before anything is sent, by a message that names both
  // contexts. Neither pool is harmed.
  const kindred::Semaphore semaphore = forking.make_semaphore(1);
  try {
    pool.submit(use, semaphore).get();
  } catch (const kindred::UsageError& error) {
    pool.logger().warn("{}", error.what());
  }
  pool.logger().info("{}", pool.submit(square, 8).get());
  forking.submit(use, semaphore).get();
}
