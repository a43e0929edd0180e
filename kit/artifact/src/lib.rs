//! Image manifests, layers and their content-addressed ids.
