// expect: a value of this type belongs to one process
#include <vector>

#include "kindred/internal/codec_task.hpp"

struct Local {};
template <>
struct kindred::internal::CodecTraits<Local> {
  static constexpr bool crosses = false;
};

#ifdef KINDRED_COMPILES
int use(const std::vector<int>& numbers);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::vector<int>>::check());
#else
int use(const std::vector<Local>& locals);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::vector<Local>>::check());
#endif
