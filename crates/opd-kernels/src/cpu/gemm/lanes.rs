/// One vector register of one instruction set.
///
/// # Safety
///
/// Every function may be called only where the machine has the instruction set. Pointers need no
/// alignment beyond that of the scalar; what they must cover is said at each function. All of it
/// is `inline(always)`, so that it is compiled for the features of the kernel that calls it.
pub(super) trait Lanes: 'static {
    type Scalar: Copy;
    type Vector: Copy;

    /// Scalars per vector.
    const COUNT: usize;

    /// Adjacent values per row that [`Lanes::transpose`] takes at once.
    const GROUP: usize;

    unsafe fn zero() -> Self::Vector;

    /// The scalar at `from` in every lane.
    unsafe fn splat(from: *const Self::Scalar) -> Self::Vector;

    /// `COUNT` scalars at `from`.
    unsafe fn load(from: *const Self::Scalar) -> Self::Vector;

    /// `n < COUNT` scalars at `from`; the other lanes are 0.
    unsafe fn load_head(from: *const Self::Scalar, n: usize) -> Self::Vector;

    /// Writes `COUNT` scalars at `to`.
    unsafe fn store(to: *mut Self::Scalar, values: Self::Vector);

    /// Writes the first `n < COUNT` lanes at `to`.
    unsafe fn store_head(to: *mut Self::Scalar, n: usize, values: Self::Vector);

    /// Hints that the cache line of `to` will be written.
    unsafe fn prefetch(to: *mut Self::Scalar);

    /// Hints that what is at `from`, which may be anywhere, will be read, but not next.
    unsafe fn prefetch_ahead(from: *const Self::Scalar);

    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// Writes at `to + g * to_stride` the values `row(0)[g], .., row(COUNT - 1)[g]`, for every
    /// `g < GROUP`.
    ///
    /// Every row covers `GROUP` values, every written place `COUNT`.
    unsafe fn transpose(
        row: impl Fn(usize) -> *const Self::Scalar,
        to: *mut Self::Scalar,
        to_stride: usize,
    );
}
