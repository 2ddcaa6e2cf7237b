//! How the static binary of the image is linked: the addresses that the loader has to correct take 16 KiB in it, packed,
//! where a list of them is 1.3 MiB, which every start reads and which stays resident.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    // Only where the C library is linked in: an older system's loader would not know the format (glibc before 2.36).
    if features.split(',').any(|feature| feature == "crt-static")
        && std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
