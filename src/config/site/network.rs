//! A range of addresses: `10.64.0.0/16`, `2001:db8::/32`, or one address alone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// How many bits they share: at most 32 or 128.
    shared: u8,
}

/// Why a text is no range of addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither IPv4 nor IPv6.
    #[error("\"{0}\" is no address: a range is written 10.64.0.0/16 or 2001:db8::/32")]
    Address(String),
    /// The number after the slash.
    #[error("\"/{0}\" is no length of a prefix: 0 to {1}")]
    Length(String, u8),
    /// A bit is set that is not shared.
    #[error("the address has bits behind its prefix: {0} is the range that it stands in")]
    Inside(Network),
}

impl Network {
    /// Whether `address` is in the range; an IPv4 address in IPv6 form counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first_bits(address, self.shared) == self.address
    }
}

/// The address with all but its first `count` bits 0.
fn first_bits(address: IpAddr, count: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(count.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(count.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address(text.to_owned()))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let shared = match length {
            None => bits,
            Some(length) => {
                let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let shared = length.parse().ok().filter(|shared| is_number && *shared <= bits);
                shared.ok_or_else(|| NetworkError::Length(length.to_owned(), bits))?
            }
        };
        let network = Network { address: first_bits(address, shared), shared };
        if network.address == address { Ok(network) } else { Err(NetworkError::Inside(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network: Network = network.parse().unwrap();
        for address in inside {
            assert!(network.contains(address.parse().unwrap()), "{address} in {network}");
        }
        for address in outside {
            assert!(!network.contains(address.parse().unwrap()), "{address} in {network}");
        }
    }

    #[test]
    fn a_range_holds_the_addresses_that_begin_with_its_bits() {
        check("10.64.0.0/16", &["10.64.0.0", "10.64.255.255", "::ffff:10.64.1.2"], &["10.65.0.0", "::1"]);
        check("10.64.0.7", &["10.64.0.7"], &["10.64.0.6"]);
        check("10.64.0.4/30", &["10.64.0.4", "10.64.0.7"], &["10.64.0.8", "10.64.0.3"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]);
        check("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::1", "1.2.3.4"]);
        check("::/0", &["::", "ffff::"], &["1.2.3.4"]);
        check("::1", &["::1"], &["::2"]);
    }

    #[test]
    fn what_is_no_range_is_refused_in_words() {
        let refused = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        assert!(refused("").contains("no address"));
        assert!(refused("10.64/16").contains("\"10.64/16\" is no address"));
        assert!(refused("10.64.0.0/33").contains("0 to 32"));
        assert!(refused("10.64.0.0/+8").contains("\"/+8\""));
        assert!(refused("10.64.0.0/").contains("0 to 32"));
        assert!(refused("::/129").contains("0 to 128"));
        let expected = "the address has bits behind its prefix: 10.64.0.0/16 is the range that it stands in";
        assert_eq!(refused("10.64.0.1/16"), expected);
    }
}
