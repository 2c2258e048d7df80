// Batch statistics over rows of tokens on the CPU: each pass over the activations that a norm needs, with everything
// that is to be computed in it. The formulas are those of functional/rows.py, which these operators stand in for.
//
// Rows of padding are never read: they come out as `shift`, get a gradient of 0 and enter no sum. Sums are taken in the
// arithmetic's type over at most 128 rows, then in double, and the threads' sums are added in the threads' order, so a
// result depends on the number of threads and on nothing else.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

// One binary for every processor: the compiler makes each function once for each instruction set, the loader chooses.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define FOR_EVERY_PROCESSOR __attribute__((noinline))
#endif
#define INLINE __attribute__((always_inline)) inline

namespace {

using at::Tensor;
using Vector = std::optional<Tensor>;
template <typename scalar>
using Wide = std::conditional_t<std::is_same_v<scalar, double>, double, float>;

constexpr int64_t kRowsPerBlock = 128;
constexpr int64_t kElementsPerTask = 32768;

// What a pass goes by beside the rows: vectors of a value per channel (C,), and the group scaling in front of it.
template <typename W>
struct Constants {
  const W* centre = nullptr;        // c, which is subtracted; nullptr: nothing is
  const W* scale = nullptr;         // forward: y = scale (s - c) + shift
  const W* shift = nullptr;
  const W* grad_scale = nullptr;    // backward: ds = grad_scale dY - grad_product (s - c) - grad_shift
  const W* grad_product = nullptr;
  const W* grad_shift = nullptr;    // nullptr: 0
  int64_t channels = 0;
  int64_t groups = 0;               // 0: s = x; else s is x with every group of channels at quadratic mean 1
  W eps = 0;                        // of the group scaling
};

// A row as the arithmetic's type, group-scaled where that is asked for: the row itself, or what `scratch` has then.
// `inverse_roots` get a factor a group.
template <typename scalar, typename W>
INLINE const W* load_row(const scalar* x, W* scratch, W* inverse_roots, const Constants<W>& constants) {
  if constexpr (std::is_same_v<scalar, W>) {
    if (constants.groups == 0) return x;
  }
  const int64_t channels = constants.channels, groups = constants.groups;
#pragma omp simd
  for (int64_t k = 0; k < channels; ++k) scratch[k] = static_cast<W>(x[k]);
  if (groups == 0) return scratch;
  const int64_t width = channels / groups;
  for (int64_t group = 0; group < groups; ++group) {
    const W* s = scratch + group * width;
    W squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t k = 0; k < width; ++k) squares += s[k] * s[k];
    inverse_roots[group] = squares;
  }
#pragma omp simd
  for (int64_t group = 0; group < groups; ++group) {  // all roots at once: one by one they take as long as the rest
    inverse_roots[group] = W(1) / std::sqrt(inverse_roots[group] / W(width) + constants.eps);
  }
  for (int64_t group = 0; group < groups; ++group) {
    W* s = scratch + group * width;
    const W factor = inverse_roots[group];
#pragma omp simd
    for (int64_t k = 0; k < width; ++k) s[k] *= factor;
  }
  return scratch;
}

// dX = (ds - s mean(ds s)) / root, a mean a group.
template <typename scalar, typename W>
INLINE void unscale_row(const W* ds, const W* s, const W* inverse_roots, scalar* dx, const Constants<W>& constants) {
  const int64_t width = constants.channels / constants.groups;
  for (int64_t group = 0; group < constants.groups; ++group, ds += width, s += width, dx += width) {
    W products = 0;
#pragma omp simd reduction(+ : products)
    for (int64_t k = 0; k < width; ++k) products += ds[k] * s[k];
    const W mean = products / W(width), factor = inverse_roots[group];
#pragma omp simd
    for (int64_t k = 0; k < width; ++k) dx[k] = static_cast<scalar>((ds[k] - s[k] * mean) * factor);
  }
}

// ds = grad_scale dY - grad_product (s - c) - grad_shift, and the sums of dY (s - c) and dY.
template <bool centred, typename scalar, typename W, typename Out>
INLINE void gradient_row(const W* s, const scalar* dy, Out* ds, W* products, W* sums, const Constants<W>& constants) {
  const W *centre = constants.centre, *scale = constants.grad_scale, *product = constants.grad_product;
  const W* shift = constants.grad_shift;
#pragma omp simd
  for (int64_t k = 0; k < constants.channels; ++k) {
    const W value = centred ? s[k] - centre[k] : s[k], grad = static_cast<W>(dy[k]);
    products[k] += grad * value;
    sums[k] += grad;
    ds[k] = static_cast<Out>(grad * scale[k] - value * product[k] - (centred ? shift[k] : W(0)));
  }
}

// The passes. Each adds to two sums of a block of rows, (C,) each; `scratch` holds three rows.
struct Normalize {  // y = scale (s - c) + shift; sum of (s - c)^2
  template <bool centred, typename scalar, typename W>
  static INLINE void row(const scalar* x, const scalar*, scalar* y, W* squares, W*, W* scratch,
                         const Constants<W>& constants) {
    const W *centre = constants.centre, *scale = constants.scale, *shift = constants.shift;
    const W* s = load_row(x, scratch, scratch + constants.channels, constants);
#pragma omp simd
    for (int64_t k = 0; k < constants.channels; ++k) {
      const W value = centred ? s[k] - centre[k] : s[k];
      squares[k] += value * value;
      y[k] = static_cast<scalar>(value * scale[k] + shift[k]);
    }
  }
};

struct Moments {  // sum of (s - c)^2, sum of s - c
  template <bool centred, typename scalar, typename W>
  static INLINE void row(const scalar* x, const scalar*, scalar*, W* squares, W* sums, W* scratch,
                         const Constants<W>& constants) {
    const W* centre = constants.centre;
    const W* s = load_row(x, scratch, scratch + constants.channels, constants);
#pragma omp simd
    for (int64_t k = 0; k < constants.channels; ++k) {
      const W value = centred ? s[k] - centre[k] : s[k];
      squares[k] += value * value;
      sums[k] += value;
    }
  }
};

struct GradientSums {  // sum of dY (s - c), sum of dY
  template <bool centred, typename scalar, typename W>
  static INLINE void row(const scalar* x, const scalar* dy, scalar*, W* products, W* sums, W* scratch,
                         const Constants<W>& constants) {
    const W* centre = constants.centre;
    const W* s = load_row(x, scratch, scratch + constants.channels, constants);
#pragma omp simd
    for (int64_t k = 0; k < constants.channels; ++k) {
      const W value = centred ? s[k] - centre[k] : s[k], grad = static_cast<W>(dy[k]);
      products[k] += grad * value;
      sums[k] += grad;
    }
  }
};

struct Gradient {  // dX; sum of dY (s - c), sum of dY
  template <bool centred, typename scalar, typename W>
  static INLINE void row(const scalar* x, const scalar* dy, scalar* dx, W* products, W* sums, W* scratch,
                         const Constants<W>& constants) {
    W *inverse_roots = scratch + constants.channels, *ds = scratch + 2 * constants.channels;
    const W* s = load_row(x, scratch, inverse_roots, constants);
    if (constants.groups == 0) {
      gradient_row<centred>(s, dy, dx, products, sums, constants);
    } else {
      gradient_row<centred>(s, dy, ds, products, sums, constants);
      unscale_row(ds, s, inverse_roots, dx, constants);
    }
  }
};

template <typename Pass, typename scalar, typename W>
INLINE void block_of_rows(const scalar* x, const scalar* dy, scalar* out, W* first, W* second, W* scratch, int64_t rows,
                          const Constants<W>& constants) {
  const int64_t channels = constants.channels;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * channels;
    const scalar* grad = dy == nullptr ? nullptr : dy + at;
    scalar* result = out == nullptr ? nullptr : out + at;
    if (constants.centre != nullptr) {
      Pass::template row<true>(x + at, grad, result, first, second, scratch, constants);
    } else {
      Pass::template row<false>(x + at, grad, result, first, second, scratch, constants);
    }
  }
}

// target_clones takes no templates, so each pass and type has a function of its own.
#define BLOCK(Pass, scalar)                                                                                       \
  FOR_EVERY_PROCESSOR void block(Pass, const scalar* x, const scalar* dy, scalar* out, Wide<scalar>* first,       \
                                 Wide<scalar>* second, Wide<scalar>* scratch, int64_t rows,                       \
                                 const Constants<Wide<scalar>>& constants) {                                      \
    block_of_rows<Pass>(x, dy, out, first, second, scratch, rows, constants);                                     \
  }
#define BLOCKS(Pass) BLOCK(Pass, float) BLOCK(Pass, double) BLOCK(Pass, at::BFloat16) BLOCK(Pass, at::Half)
BLOCKS(Normalize) BLOCKS(Moments) BLOCKS(GradientSums) BLOCKS(Gradient)
#undef BLOCKS
#undef BLOCK

// The vectors of a call, in the arithmetic's type and contiguous; kept alive here while a pass points to them.
template <typename W>
class Given {
 public:
  Given(const Tensor& rows, int64_t groups, double eps) : rows_(rows) {
    TORCH_CHECK(rows.dim() == 2 && rows.is_contiguous(), "expected contiguous rows (N, C), got ", rows.sizes());
    TORCH_CHECK(groups >= 0 && (groups == 0 || rows.size(1) % groups == 0), "expected a number of groups that divides ",
                rows.size(1), " channels, got ", groups);
    constants.channels = rows.size(1);
    constants.groups = groups;
    constants.eps = static_cast<W>(eps);
  }

  const W* vector(const Vector& vector) {
    if (!vector.has_value()) return nullptr;
    TORCH_CHECK(vector->dim() == 1 && vector->size(0) == rows_.size(1), "expected a vector of ", rows_.size(1),
                " channels, got ", vector->sizes());
    kept_.push_back(vector->to(c10::CppTypeToScalarType<W>::value).contiguous());
    return kept_.back().template const_data_ptr<W>();
  }

  Constants<W> constants;

 private:
  const Tensor rows_;
  std::vector<Tensor> kept_;
};

const bool* padding_of(const Tensor& rows, const Vector& padding) {
  if (!padding.has_value()) return nullptr;
  TORCH_CHECK(padding->scalar_type() == at::kBool && padding->numel() == rows.size(0) && padding->is_contiguous(),
              "expected a contiguous bool column of ", rows.size(0), " rows, got ", padding->sizes());
  return padding->const_data_ptr<bool>();
}

// Runs a pass over all real rows and gives its two sums, (2, C). `out` gets `filling` (nullptr: zeros) at padding.
template <typename Pass, typename scalar>
Tensor run(const Tensor& rows, const scalar* dy, scalar* out, const Vector& padding_column,
           const Wide<scalar>* filling, const Constants<Wide<scalar>>& constants) {
  using W = Wide<scalar>;
  const int64_t count = rows.size(0), channels = rows.size(1);
  // Inside another parallel region everything runs on this very thread, under its number there.
  const int64_t threads = at::in_parallel_region() ? at::get_thread_num() + 1 : at::get_num_threads();
  const bool* padding = padding_of(rows, padding_column);
  const scalar* x = rows.const_data_ptr<scalar>();
  std::vector<double> sums(static_cast<size_t>(threads * 2 * channels), 0.0);
  at::parallel_for(0, count, std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, channels)),
                   [&](int64_t begin, int64_t end) {
    double* total = sums.data() + at::get_thread_num() * 2 * channels;
    std::vector<W> buffer(static_cast<size_t>(5 * channels));
    W *block_sums = buffer.data(), *scratch = block_sums + 2 * channels;
    for (int64_t row = begin, next; row < end; row = next) {
      const bool padded = padding != nullptr && padding[row];
      for (next = row + 1; next < end && next - row < kRowsPerBlock && (padding != nullptr && padding[next]) == padded;) {
        ++next;
      }
      const int64_t at = row * channels;
      if (!padded) {
        std::fill_n(block_sums, 2 * channels, W(0));
        block(Pass(), x + at, dy == nullptr ? nullptr : dy + at, out == nullptr ? nullptr : out + at, block_sums,
              block_sums + channels, scratch, next - row, constants);
        for (int64_t k = 0; k < 2 * channels; ++k) total[k] += static_cast<double>(block_sums[k]);
      } else if (out != nullptr) {
        for (scalar* to = out + at; to < out + next * channels; to += channels) {
          if (filling == nullptr) {
            std::fill_n(to, channels, scalar(0));
          } else {
            for (int64_t k = 0; k < channels; ++k) to[k] = static_cast<scalar>(filling[k]);
          }
        }
      }
    }
  });
  for (int64_t thread = 1; thread < threads; ++thread) {
    for (int64_t k = 0; k < 2 * channels; ++k) sums[k] += sums[thread * 2 * channels + k];
  }
  Tensor result = at::empty({2, channels}, rows.options().dtype(c10::CppTypeToScalarType<W>::value));
  std::copy_n(sums.data(), 2 * channels, result.template mutable_data_ptr<W>());
  return result;
}

#define FOR_EVERY_TYPE(rows, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, rows.scalar_type(), "fairseq_powernorm", __VA_ARGS__)

// The number of real tokens, as a scalar of the arithmetic's type.
Tensor count_of(const Tensor& rows, const Vector& padding_column, at::ScalarType wide) {
  const bool* padding = padding_of(rows, padding_column);
  int64_t count = rows.size(0);
  if (padding != nullptr) count -= std::count(padding, padding + rows.size(0), true);
  return at::full({}, static_cast<double>(count), rows.options().dtype(wide));
}

// A vector with a value per channel, computed here; it has to outlive the pass that reads it.
template <typename W, typename Function>
std::vector<W> per_channel(int64_t channels, const Function& function) {
  std::vector<W> values(static_cast<size_t>(channels));
  for (int64_t k = 0; k < channels; ++k) values[k] = function(k);
  return values;
}

template <typename W>
std::vector<W> inverse_roots_of(const W* deviation, int64_t channels, double eps) {
  return per_channel<W>(channels, [&](int64_t k) { return W(1) / std::sqrt(deviation[k] + static_cast<W>(eps)); });
}

// Multiplies the first of two sums (2, C) by a value per channel.
template <typename W>
void scale_first(const Tensor& sums, const std::vector<W>& factors) {
  W* first = sums.mutable_data_ptr<W>();
  for (size_t k = 0; k < factors.size(); ++k) first[k] *= factors[k];
}

std::tuple<Tensor, Tensor, Tensor> normalize(const Tensor& rows, const Vector& padding, const Vector& centre,
                                             const Tensor& deviation, const Tensor& weight, const Tensor& bias,
                                             double eps, int64_t groups) {
  Tensor output = at::empty_like(rows), sums, count;
  FOR_EVERY_TYPE(rows, [&] {
    using W = Wide<scalar_t>;
    Given<W> given(rows, groups, eps);
    const W *gamma = given.vector(weight), *divisor = given.vector(deviation);
    std::vector<W> scale = inverse_roots_of(divisor, rows.size(1), eps);
    for (int64_t k = 0; k < rows.size(1); ++k) scale[k] *= gamma[k];
    given.constants.centre = given.vector(centre);
    given.constants.scale = scale.data();
    given.constants.shift = given.vector(bias);
    sums = run<Normalize, scalar_t>(rows, nullptr, output.mutable_data_ptr<scalar_t>(), padding, given.constants.shift,
                                    given.constants);
    count = count_of(rows, padding, sums.scalar_type());
    const W tokens = std::max(*count.const_data_ptr<W>(), W(1));
    W* squares = sums.mutable_data_ptr<W>();
    for (int64_t k = 0; k < rows.size(1); ++k) squares[k] /= tokens;
  });
  return {output, sums[0], count};
}

std::tuple<Tensor, Tensor> moments(const Tensor& rows, const Vector& padding, const Vector& centre, double eps,
                                   int64_t groups) {
  Tensor sums;
  FOR_EVERY_TYPE(rows, [&] {
    Given<Wide<scalar_t>> given(rows, groups, eps);
    given.constants.centre = given.vector(centre);
    sums = run<Moments, scalar_t>(rows, nullptr, nullptr, padding, nullptr, given.constants);
  });
  return {sums, count_of(rows, padding, sums.scalar_type())};
}

const Tensor& matching(const Tensor& grad, const Tensor& rows) {
  TORCH_CHECK(grad.sizes() == rows.sizes() && grad.scalar_type() == rows.scalar_type() && grad.is_contiguous(),
              "expected a contiguous gradient ", rows.sizes(), " of type ", rows.scalar_type(), ", got ", grad.sizes(),
              " of type ", grad.scalar_type());
  return grad;
}

Tensor gradient_sums(const Tensor& rows, const Tensor& grad, const Vector& padding, const Vector& centre,
                     const Tensor& deviation, double eps, int64_t groups) {
  Tensor sums;
  FOR_EVERY_TYPE(rows, [&] {
    using W = Wide<scalar_t>;
    Given<W> given(rows, groups, eps);
    given.constants.centre = given.vector(centre);
    sums = run<GradientSums, scalar_t>(rows, matching(grad, rows).const_data_ptr<scalar_t>(), nullptr, padding, nullptr,
                                       given.constants);
    scale_first(sums, inverse_roots_of(given.vector(deviation), rows.size(1), eps));
  });
  return sums;
}

std::tuple<Tensor, Tensor> gradient(const Tensor& rows, const Tensor& grad, const Vector& padding, const Vector& centre,
                                    const Tensor& deviation, const Tensor& weight, const Tensor& projection,
                                    const Vector& mean, double eps, int64_t groups) {
  TORCH_CHECK(centre.has_value() == mean.has_value(), "expected centre and mean together or neither");
  Tensor grad_rows = at::empty_like(rows), sums;
  FOR_EVERY_TYPE(rows, [&] {
    using W = Wide<scalar_t>;
    const int64_t channels = rows.size(1);
    Given<W> given(rows, groups, eps);
    const W *gamma = given.vector(weight), *nu = given.vector(projection), *subtracted = given.vector(mean);
    const std::vector<W> root = inverse_roots_of(given.vector(deviation), channels, eps);
    const auto scale = per_channel<W>(channels, [&](int64_t k) { return gamma[k] * root[k]; });
    const auto product = per_channel<W>(channels, [&](int64_t k) { return nu[k] * root[k] * root[k]; });
    const auto shift =
        per_channel<W>(channels, [&](int64_t k) { return subtracted == nullptr ? W(0) : subtracted[k] * root[k]; });
    given.constants.centre = given.vector(centre);
    given.constants.grad_scale = scale.data();
    given.constants.grad_product = product.data();
    given.constants.grad_shift = subtracted == nullptr ? nullptr : shift.data();
    sums = run<Gradient, scalar_t>(rows, matching(grad, rows).const_data_ptr<scalar_t>(),
                                   grad_rows.mutable_data_ptr<scalar_t>(), padding, nullptr, given.constants);
    scale_first(sums, root);
  });
  return {grad_rows, sums};
}

// running <- updated, unless the batch held no token or an entry is not finite.
template <typename W>
void move(const Tensor& running, const std::vector<W>& updated, const Tensor& count) {
  const bool finite = std::all_of(updated.begin(), updated.end(), [](W value) { return std::isfinite(value); });
  if (finite && count.item<double>() > 0) std::copy(updated.begin(), updated.end(), running.mutable_data_ptr<W>());
}

void check_statistic(const Tensor& running, const Tensor& count) {
  TORCH_CHECK(running.dim() == 1 && running.is_contiguous() && count.numel() == 1,
              "expected a contiguous statistic and a count of tokens, got ", running.sizes(), " and ", count.sizes());
}

void move_average(const Tensor& running, const Tensor& batch, const Tensor& count, double alpha) {
  check_statistic(running, count);
  AT_DISPATCH_FLOATING_TYPES(running.scalar_type(), "fairseq_powernorm", [&] {
    Given<scalar_t> given(running.unsqueeze(0), 0, 0);
    const scalar_t *from = given.vector(batch), *old = running.const_data_ptr<scalar_t>();
    const auto a = static_cast<scalar_t>(alpha);
    move(running, per_channel<scalar_t>(running.numel(), [&](int64_t k) {
           return a < scalar_t(0.5) ? from[k] + a * (old[k] - from[k]) : old[k] - (old[k] - from[k]) * (1 - a);
         }), count);
  });
}

std::tuple<Tensor, Tensor> ratio_and_correlation(const Tensor& weight, const Tensor& grad_weight,
                                                 const Tensor& deviation, const Tensor& mean_square,
                                                 const Tensor& count, double eps) {
  Tensor ratio = at::empty_like(grad_weight), correlation = at::empty_like(grad_weight);
  AT_DISPATCH_FLOATING_TYPES(grad_weight.scalar_type(), "fairseq_powernorm", [&] {
    Given<scalar_t> given(grad_weight.unsqueeze(0), 0, 0);
    const scalar_t *gamma = given.vector(weight), *product = given.vector(grad_weight);
    const scalar_t *divisor = given.vector(deviation), *square = given.vector(mean_square);
    const auto tokens = static_cast<scalar_t>(std::max(count.item<double>(), 1.0));
    scalar_t *to_ratio = ratio.mutable_data_ptr<scalar_t>(), *to_correlation = correlation.mutable_data_ptr<scalar_t>();
    for (int64_t k = 0; k < grad_weight.numel(); ++k) {
      to_ratio[k] = square[k] / (divisor[k] + static_cast<scalar_t>(eps));
      to_correlation[k] = gamma[k] * product[k] / tokens;
    }
  });
  return {ratio, correlation};
}

void move_projection(const Tensor& projection, const Tensor& square_mean_ratio, const Tensor& correlation,
                     const Tensor& count, double alpha) {
  check_statistic(projection, count);
  AT_DISPATCH_FLOATING_TYPES(projection.scalar_type(), "fairseq_powernorm", [&] {
    Given<scalar_t> given(projection.unsqueeze(0), 0, 0);
    const scalar_t *gamma = given.vector(square_mean_ratio), *lambda = given.vector(correlation);
    const scalar_t* nu = projection.const_data_ptr<scalar_t>();
    const auto share = static_cast<scalar_t>(1 - alpha);
    move(projection, per_channel<scalar_t>(projection.numel(), [&](int64_t k) {
           return nu[k] + share * (lambda[k] - nu[k] * gamma[k]) / std::max(share * gamma[k], scalar_t(1));
         }), count);
  });
}

}  // namespace

TORCH_LIBRARY(fairseq_powernorm, library) {
  library.def(
      "normalize(Tensor rows, Tensor? padding, Tensor? centre, Tensor deviation, Tensor weight, Tensor bias, float eps,"
      " int groups) -> (Tensor, Tensor, Tensor)");
  library.def("moments(Tensor rows, Tensor? padding, Tensor? centre, float eps, int groups) -> (Tensor, Tensor)");
  library.def(
      "gradient_sums(Tensor rows, Tensor grad, Tensor? padding, Tensor? centre, Tensor deviation, float eps, int groups)"
      " -> Tensor");
  library.def(
      "gradient(Tensor rows, Tensor grad, Tensor? padding, Tensor? centre, Tensor deviation, Tensor weight,"
      " Tensor projection, Tensor? mean, float eps, int groups) -> (Tensor, Tensor)");
  library.def("move_average(Tensor(a!) running, Tensor batch, Tensor count, float alpha) -> ()");
  library.def(
      "ratio_and_correlation(Tensor weight, Tensor grad_weight, Tensor deviation, Tensor mean_square, Tensor count,"
      " float eps) -> (Tensor, Tensor)");
  library.def(
      "move_projection(Tensor(a!) projection, Tensor square_mean_ratio, Tensor correlation, Tensor count, float alpha)"
      " -> ()");
}

TORCH_LIBRARY_IMPL(fairseq_powernorm, CPU, library) {
  library.impl("normalize", normalize);
  library.impl("moments", moments);
  library.impl("gradient_sums", gradient_sums);
  library.impl("gradient", gradient);
  library.impl("move_average", move_average);
  library.impl("ratio_and_correlation", ratio_and_correlation);
  library.impl("move_projection", move_projection);
}
