// A node whose program is another one than the head's.
#include "kindred/cluster.hpp"

int main(int argc, char** argv) {
  kindred::ClusterEntry entry{argc, argv};
  return 0;
}
