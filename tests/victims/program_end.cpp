// A program that logs and then ends: program_end METHOD HOW FILE OPTION. What is in FILE afterwards is the
// test's to say.
//   HOW     return, static (returns; the pool is static), leak (returns; the pool is never destroyed), exit,
//           quick_exit, exception, terminate, abort, SIGTERM, SIGSEGV, overflow, SIGKILL, _exit
//   OPTION  plain, last_words, flush_on
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#include <unistd.h>

#include "kindred/kindred.hpp"

namespace {

int say(int number) {
  kindred::log_info("worker {}", number);
  return number;
}

/// Logs when static objects are destroyed.
struct LastOfAll {
  bool speaks = false;
  ~LastOfAll() {
    if (speaks) kindred::log_info("static destructor");
  }
};
LastOfAll last_of_all;

std::unique_ptr<kindred::ProcessPoolExecutor> static_pool;
// A pool that is never destroyed; volatile, so that LeakSanitizer finds the pointer.
kindred::ProcessPoolExecutor* volatile kept_pool = nullptr;
volatile std::uintptr_t no_address = 16;

volatile int deep = 0;
volatile bool deeper = true;
int overflow(int depth) {
  volatile char room[4096];
  room[0] = static_cast<char>(depth);
  deep = depth;
  return deeper ? overflow(depth + 1) + room[0] : depth;
}

void end(const std::string& how) {
  if (how == "exit") std::exit(3);
  if (how == "quick_exit") std::quick_exit(3);
  if (how == "_exit") ::_exit(3);
  if (how == "exception") throw std::runtime_error{"nobody catches this"};
  if (how == "terminate") std::terminate();
  if (how == "abort") std::abort();
  if (how == "SIGTERM") ::raise(SIGTERM);
  if (how == "SIGKILL") ::raise(SIGKILL);
  if (how == "SIGSEGV") *reinterpret_cast<volatile int*>(no_address) = 1;
  if (how == "overflow") deep = overflow(0);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 5) return 2;
  const std::string how = argv[2], option = argv[4];
  kindred::LogOptions log;
  log.last_words = option == "last_words";
  if (option == "flush_on") log.flush_on = kindred::Level::error;
  auto pool = std::make_unique<kindred::ProcessPoolExecutor>(
      entry, kindred::ExecutorOptions{
                 .start_method = kindred::parse_start_method(argv[1]), .max_workers = 2, .log = log});
  // A large buffer: what nobody flushes is not there.
  pool->logger().add_sink(kindred::sinks::file(argv[3]));
  for (int i = 0; i < 10; ++i) pool->submit(say, i).get();
  pool->logger().info("flushed");
  pool->logger().flush();
  for (int i = 10; i < 20; ++i) pool->submit(say, i).get();
  for (int i = 0; i < 1000; ++i) kindred::log_info("parent {}", i);
  if (option == "flush_on") kindred::log_error("the last words of the program's own");
  last_of_all.speaks = true;
  if (how == "static") static_pool = std::move(pool);
  if (how == "leak" || how == "exception" || how == "terminate") kept_pool = pool.release();
  end(how);
  return 0;
}
