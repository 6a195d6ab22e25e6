// expect: a shared object can't travel through a channel
#include "kindred/channel.hpp"
#include "kindred/counter.hpp"

bool full(const kindred::Channel<
#ifdef KINDRED_COMPILES
          int
#else
          kindred::Counter
#endif
          >& channel) {
  return channel.size() == channel.capacity();
}

int main() { return full({}) ? 1 : 0; }
