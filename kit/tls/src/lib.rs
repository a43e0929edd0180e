//! Certificates of the cluster: CA, leaf certificates, pins, one provider.
