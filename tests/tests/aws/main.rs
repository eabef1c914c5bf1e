//! `deploy/aws`: what AWS Batch asks of a container.

mod contract;
