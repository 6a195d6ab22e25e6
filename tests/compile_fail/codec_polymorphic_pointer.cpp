// expect: register the classes with CEREAL_REGISTER_TYPE
#include <memory>

#include "kindred/internal/codec_task.hpp"

struct Shape {
  virtual ~Shape() = default;
};

#ifdef KINDRED_COMPILES
struct Square final : Shape {
  int side = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(side);
  }
};
int corners(const std::unique_ptr<Square>& shape);
static_assert(kindred::internal::TaskTypes<decltype(&corners), std::unique_ptr<Square>>::check());
#else
int corners(const std::unique_ptr<Shape>& shape);
static_assert(kindred::internal::TaskTypes<decltype(&corners), std::unique_ptr<Shape>>::check());
#endif
