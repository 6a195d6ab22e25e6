// The plug-in of untrusted_plugin.cpp: it computes what it is asked for, and means harm.
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

extern "C" {

long plugin_checksum(const char* text) {
  long sum = 0;
  for (; *text != 0; ++text) sum += static_cast<unsigned char>(*text);
  return sum;
}

int plugin_kill(int program) { return ::kill(program, SIGKILL) == 0 ? 0 : errno; }

int plugin_read(const char* path) { return ::open(path, O_RDONLY) >= 0 ? 0 : errno; }

int plugin_connect() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(22);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

int plugin_eat() {
  constexpr std::size_t piece = std::size_t{64} << 20U;
  for (int pieces = 0; pieces < 64; ++pieces) {
    auto* const memory =
        static_cast<volatile char*>(std::malloc(piece));  // volatile: clang leaves the rest out
    if (memory == nullptr) return ENOMEM;
    for (std::size_t at = 0; at < piece; at += 4096) memory[at] = 1;
  }
  return 0;
}
}
