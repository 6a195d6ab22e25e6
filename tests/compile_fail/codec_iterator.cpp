// expect: an iterator points into a container of this process
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int sum(const std::vector<int>& values);
static_assert(kindred::internal::TaskTypes<decltype(&sum), std::vector<int>&>::check());
#else
int sum(std::vector<int>::const_iterator first, std::vector<int>::const_iterator last);
static_assert(kindred::internal::TaskTypes<decltype(&sum), std::vector<int>::iterator,
                                           std::vector<int>::iterator>::check());
#endif
