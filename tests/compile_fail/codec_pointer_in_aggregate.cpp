// expect: pass the value, a container, or kindred::SharedArray
#include <map>
#include <string>
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Node {
  std::string name;
  int parent;
};
int count(const std::map<int, std::vector<Node>>& nodes);
static_assert(kindred::internal::TaskTypes<decltype(&count), std::map<int, std::vector<Node>>>::check());
#else
struct Node {
  std::string name;
  Node* parent;
};
int count(const std::map<int, std::vector<Node>>& nodes);
static_assert(kindred::internal::TaskTypes<decltype(&count), std::map<int, std::vector<Node>>>::check());
#endif
