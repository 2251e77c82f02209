//! Our stores keep each law.

mod memory_grants {
    use token_broker_store::MemoryGrants;

    async fn make() -> MemoryGrants {
        MemoryGrants::new()
    }

    token_broker_store::connect_store_contract!(make);
    token_broker_store::grant_store_contract!(make);
}

mod boxed_grants {
    use token_broker_store::{BoxGrantStore, MemoryGrants};

    async fn make() -> BoxGrantStore {
        BoxGrantStore::new(MemoryGrants::new())
    }

    token_broker_store::grant_store_contract!(make);

    #[test]
    fn debug_names_the_type() {
        let store = BoxGrantStore::new(MemoryGrants::new());
        assert_eq!(format!("{:?}", store.clone()), "BoxGrantStore { .. }");
    }
}

mod memory_authority {
    use token_broker_store::authority::MemoryAuthority;

    async fn make() -> MemoryAuthority {
        MemoryAuthority::new()
    }

    token_broker_store::authority_store_contract!(make);

    #[test]
    fn debug_names_the_type() {
        assert_eq!(format!("{:?}", MemoryAuthority::default()), "MemoryAuthority { .. }");
    }
}

mod memory_revocations {
    use token_broker_store::MemoryRevocations;

    async fn make() -> MemoryRevocations {
        MemoryRevocations::new()
    }

    token_broker_store::revocation_store_contract!(make);
}

mod boxed_revocations {
    use token_broker_store::MemoryRevocations;
    use tower_token_broker::revocation::BoxRevocationStore;

    async fn make() -> BoxRevocationStore {
        BoxRevocationStore::new(MemoryRevocations::new())
    }

    token_broker_store::revocation_store_contract!(make);
}
