//! A `BackendRef` is proof that the registry keeps its backend fresh, so that nothing else may be
//! able to make one.

#[test]
fn a_backend_reference_cannot_be_forged() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/forge/*.rs");
}
