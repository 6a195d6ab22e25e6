// Ends to waiting: a time limit for the task, a polite one before it, an end to a wait of one's own, and
// three ways to cancel. Whatever is killed is one worker with one task; the others do not notice.
//
// expect: over its limit: task 'hang'
// expect: asked by its soft timeout, it stopped by itself: true
// expect: not finished yet, and it goes on: true
// expect: cancelled before it began: true
// expect: asked to stop, it did: true
// expect: killed while it ran: true
// expect: the others had no part in it: 42
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <kindred/kindred.hpp>

using namespace std::chrono_literals;

// The bug in question.
void hang(const kindred::Event& begun) {
  begun.set();
  for (;;) std::this_thread::sleep_for(1h);
}

// A task that looks at its stop token: set by a soft timeout, by cancel(Running::ask), and by shutdown.
bool work_until_asked(kindred::Worker& worker, const kindred::Event& begun) {
  begun.set();
  std::mutex mutex;
  std::condition_variable_any asked;
  std::unique_lock lock{mutex};
  return asked.wait(lock, worker.stop_token(), [] { return false; }), worker.stop_requested();
}

int answer() { return 42; }

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
  pool.logger().add_sink(kindred::sinks::stdout_color(),
                         {.filter = {[](const kindred::LogRecord& record) { return record.worker < 0; }}});
  const kindred::Logger log = pool.logger().named("example");
  const auto begun = pool.make_event();

  try {
    pool.submit({.timeout = 50ms}, hang, begun).get();
  } catch (const kindred::TaskTimeout& error) {
    log.info("over its limit: {}", error.what());
  }
  log.info("asked by its soft timeout, it stopped by itself: {}",
           pool.submit({.soft_timeout = 50ms}, work_until_asked, begun).get());

  begun.clear();
  auto running = pool.submit(work_until_asked, begun);
  begun.wait();
  log.info("not finished yet, and it goes on: {}", !running.wait_for(10ms));
  auto pending = pool.submit(answer);
  log.info("cancelled before it began: {}", pending.cancel() && pending.cancelled());
  running.cancel(kindred::Running::ask);
  log.info("asked to stop, it did: {}", running.get());

  begun.clear();
  auto hanging = pool.submit(hang, begun);
  auto behind = pool.submit(answer);
  begun.wait();
  log.info("killed while it ran: {}", hanging.cancel(kindred::Running::kill));
  log.info("the others had no part in it: {}", behind.get());
}
