//! The server's configuration files, as text. Pure.

/// What differs between servers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Port for the network and the name of the socket.
    pub port: u16,
    /// Directory of the unix socket.
    pub socket_dir: String,
    /// Name in log lines.
    pub id: String,
}

impl Settings {
    /// `postgresql.conf`. Durable by default: fsync and synchronous commit stay on.
    pub(crate) fn postgresql_conf(&self) -> String {
        let Self { port, socket_dir, id } = self;
        format!(
            "listen_addresses = '0.0.0.0'\n\
             port = {port}\n\
             unix_socket_directories = '{socket_dir}'\n\
             max_connections = 400\n\
             shared_buffers = 32MB\n\
             huge_pages = off\n\
             dynamic_shared_memory_type = posix\n\
             wal_level = replica\n\
             fsync = on\n\
             synchronous_commit = on\n\
             max_wal_senders = 15\n\
             wal_keep_size = 256MB\n\
             hot_standby = on\n\
             password_encryption = scram-sha-256\n\
             log_destination = 'stderr'\n\
             logging_collector = off\n\
             log_line_prefix = '{id} %m '\n\
             log_timezone = 'UTC'\n\
             timezone = 'UTC'\n\
             cluster_name = 'flynn'\n"
        )
    }

    /// `pg_hba.conf`: only the driver, over the unix socket, comes in without a password.
    pub(crate) fn pg_hba_conf() -> &'static str {
        "local all         postgres              trust\n\
         host  all         all         0.0.0.0/0 scram-sha-256\n\
         host  replication flynn       0.0.0.0/0 scram-sha-256\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_on_disk_before_it_is_acknowledged() {
        let settings =
            Settings { port: 5432, socket_dir: "/run/x".to_owned(), id: "me".to_owned() };
        let text = settings.postgresql_conf();
        assert!(text.contains("fsync = on\n") && text.contains("synchronous_commit = on\n"));
        assert!(text.contains("unix_socket_directories = '/run/x'\n"));
    }

    #[test]
    fn nobody_comes_in_over_the_network_without_a_password() {
        let network = Settings::pg_hba_conf().lines().filter(|line| line.starts_with("host"));
        assert!(network.clone().count() > 0);
        assert!(network.into_iter().all(|line| line.ends_with("scram-sha-256")));
    }
}
