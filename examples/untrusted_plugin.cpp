// A shared library from a stranger. It is loaded and called in workers that have a sandbox: it may read its
// own file, compute, and nothing else. Whatever it tries costs the call that it was asked for.
//
// expect: checksum of 'abc': 294
// expect: killing the program: worker
// expect: bad system call `kill`: the sandbox forbids it
// expect: reading a secret: Permission denied
// expect: connecting: worker
// expect: bad system call `socket`: the sandbox forbids it
// expect: eating 4 GiB of memory: Cannot allocate memory
// expect: checksum of 'abc': 294, still
// without: ThreadSanitizer, which takes the clone that tries a sandbox for a fork
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

#include <dlfcn.h>
#include <unistd.h>

#include <kindred/kindred.hpp>

// In the worker: the program itself never loads the library.
template <class Function>
Function* from_plugin(const std::string& library, const char* name) {
  void* const handle = dlopen(library.c_str(), RTLD_NOW);
  void* const symbol = handle != nullptr ? dlsym(handle, name) : nullptr;
  if (symbol == nullptr) throw std::runtime_error{dlerror()};
  return reinterpret_cast<Function*>(symbol);
}

long checksum(const std::string& library, const std::string& text) {
  return from_plugin<long(const char*)>(library, "plugin_checksum")(text.c_str());
}
int kill_program(const std::string& library, int program) {
  return from_plugin<int(int)>(library, "plugin_kill")(program);
}
int read_secret(const std::string& library, const std::string& path) {
  return from_plugin<int(const char*)>(library, "plugin_read")(path.c_str());
}
int connect_somewhere(const std::string& library) { return from_plugin<int()>(library, "plugin_connect")(); }
int eat_memory(const std::string& library) { return from_plugin<int()>(library, "plugin_eat")(); }

void tell(const kindred::ExecutorLogger& log, const char* what, kindred::Future<int> result) {
  try {
    const int error = result.get();
    log.info("{}: {}", what, error == 0 ? "DONE" : std::strerror(error));
  } catch (const kindred::WorkerLost& lost) {
    log.info("{}: {}", what, lost.what());
  }
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const std::string library = argc > 1 ? argv[1] : EXAMPLE_PLUGIN;
  kindred::Sandbox sandbox = kindred::Sandbox::files({library});
  sandbox.memory_bytes = 512 << 20;
  try {
    kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2, .worker = {.sandbox = sandbox}}};
    pool.logger().add_sink(kindred::sinks::stdout_color());
    std::ofstream{"secret"} << "the user's";

    std::printf("checksum of 'abc': %ld\n", pool.submit(checksum, library, std::string{"abc"}).get());
    tell(pool.logger(), "killing the program",
         pool.submit(kill_program, library, static_cast<int>(getpid())));
    tell(pool.logger(), "reading a secret", pool.submit(read_secret, library, std::string{"secret"}));
    tell(pool.logger(), "connecting", pool.submit(connect_somewhere, library));
    tell(pool.logger(), "eating 4 GiB of memory", pool.submit(eat_memory, library));
    std::printf("checksum of 'abc': %ld, still\n", pool.submit(checksum, library, std::string{"abc"}).get());
  } catch (const kindred::Error& missing) {
    std::printf("This machine has no sandbox to offer: %s\n", missing.what());
    return 77;
  }
}
