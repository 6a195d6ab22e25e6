// Loguru's recipes for exceptions: logger.catch, logger.exception, opt(exception=...). What a task throws is
// kept for its future; what ends a worker is in the log by itself.
//
// expect: [error] [w0 read_all#1] cannot start: std::runtime_error: no settings, caused by std::out_of_range: no key 'port'
// expect: {exception=std::runtime_error what="no settings"}
// expect: [warn] [w0 read_all#1] retrying: std::runtime_error: disk is slow
// expect: read_all went on
// expect: the future has it too: task 'read_settings' #2 threw std::runtime_error: no settings
// expect: [error]
// expect: SIGSEGV
#include <csignal>
#include <exception>
#include <stdexcept>

#include <kindred/kindred.hpp>

void read_settings() {
  try {
    throw std::out_of_range{"no key 'port'"};
  } catch (...) {
    std::throw_with_nested(std::runtime_error{"no settings"});
  }
}
void read_all() {
  kindred::catch_and_log(read_settings, "cannot start");  // @logger.catch
  try {
    throw std::runtime_error{"disk is slow"};
  } catch (...) {
    kindred::log_exception(kindred::Level::warn, std::current_exception(),
                           "retrying");  // logger.opt(exception=True).warning(...)
  }
  kindred::log_info("read_all went on");
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1}};
  pool.logger().add_sink(kindred::sinks::stdout_color());
  pool.submit(read_all).get();
  try {
    pool.submit(read_settings).get();
  } catch (const std::runtime_error& error) {  // the type that was thrown, in another process
    pool.logger().info("the future has it too: {}", error.what());
  }
  pool.submit([] { std::raise(SIGSEGV); }).wait();
}
