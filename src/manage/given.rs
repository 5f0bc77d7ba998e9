//! What all management commands are given: where the API is, who asks, and how the answer is printed.

use std::path::PathBuf;

use clap::Args;

use super::{ManageError, Target};
use crate::{options::Options, service::Credentials, settings::default_data_dir};

/// Where the API is, who asks, and how the answer is printed.
#[derive(Args, Clone, Debug)]
pub struct Given {
    /// Management API of the Kaigi to talk to
    #[arg(
        global = true,
        long,
        env = "KAIGI_MANAGEMENT_URL",
        value_name = "URL",
        default_value = "http://localhost:3000"
    )]
    pub url: String,
    /// Certificates to trust for https, beside those of the system (PEM); with `--tls self-signed` the portal's own
    #[arg(global = true, long, env = "KAIGI_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Id of the service in whose name to ask [default: the first service, from the data directory]
    #[arg(global = true, long, env = "KAIGI_SERVICE_ID", value_name = "ID", requires = "service_key")]
    pub service_id: Option<String>,
    /// Key of that service
    #[arg(
        global = true,
        long,
        env = "KAIGI_SERVICE_KEY",
        value_name = "KEY",
        hide_env_values = true,
        requires = "service_id"
    )]
    pub service_key: Option<String>,
    /// Configuration file that names the data directory
    #[arg(global = true, long, env = "KAIGI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that Kaigi keeps its data in [default: ./data]
    #[arg(global = true, long, env = "KAIGI_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// JSON, for programs
    #[arg(global = true, long)]
    pub json: bool,
}

impl Given {
    /// The service made at the first start, as the data directory tells of it.
    pub(super) fn first_service(&self) -> Result<Credentials, ManageError> {
        let named = match (&self.data_dir, &self.config) {
            (Some(dir), _) => Some(dir.clone()),
            (None, Some(file)) => Options::read(file)?.data_dir,
            (None, None) => None,
        };
        Ok(Credentials::read(&named.unwrap_or_else(default_data_dir))?)
    }

    pub(super) fn target(&self) -> Result<Target, ManageError> {
        let (id, key) = match (&self.service_id, &self.service_key) {
            (Some(id), Some(key)) => (id.clone(), key.clone()),
            _ => {
                let first = self.first_service()?;
                (first.id, first.key)
            }
        };
        Ok(Target { url: self.url.clone(), ca: self.ca.clone(), id, key })
    }
}
