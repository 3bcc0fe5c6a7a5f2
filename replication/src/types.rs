//! Which types may travel in binary.

use decoder::TypeOid;

/// Built-in types (and their arrays) whose binary send format is the same on all supported servers and holds no OID
/// of a user's object. Source: `pg_type.dat` of PostgreSQL 14 to 18. In ascending order.
///
/// Not here although built in: `xml` (its send function adds an encoding declaration), the `reg*` types (binary is a
/// bare OID that means another object elsewhere), `record`, `int2vector` and other catalog types.
const BINARY_SAFE: &[u32] = &[
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 199, 600, 601, 602, 603, 604, 628, 629, 650, 651, 700, 701, 718, 719, 774,
    775, 790, 791, 829, 869, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1017, 1018, 1019, 1020, 1021,
    1022, 1027, 1028, 1040, 1041, 1042, 1043, 1082, 1083, 1114, 1115, 1182, 1183, 1184, 1185, 1186, 1187, 1231, 1266,
    1270, 1560, 1561, 1562, 1563, 1700, 2950, 2951, 3220, 3221, 3614, 3615, 3643, 3645, 3802, 3807, 3904, 3905, 3906,
    3907, 3908, 3909, 3910, 3911, 3912, 3913, 3926, 3927,
];

/// May values of this type be taken in binary?
pub(crate) fn binary_safe(oid: TypeOid) -> bool {
    BINARY_SAFE.binary_search(&oid.0).is_ok()
}

/// The types whose values may be taken in binary, for SQL: `16, 17, …`.
#[must_use]
pub fn binary_safe_list() -> String {
    let oids: Vec<String> = BINARY_SAFE.iter().map(u32::to_string).collect();
    oids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_has_what_is_expected() {
        assert!(BINARY_SAFE.is_sorted());
        assert!(binary_safe(TypeOid(23)) && binary_safe(TypeOid(1700)) && binary_safe(TypeOid(3807)));
        assert!(!binary_safe(TypeOid(142)), "xml");
        assert!(!binary_safe(TypeOid(2205)), "regclass");
        assert!(!binary_safe(TypeOid(16_400)), "a user's type");
    }
}
