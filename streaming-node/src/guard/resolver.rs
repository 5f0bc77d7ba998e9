//! Tells GIO the proxy: a `GSimpleProxyResolver`, which has one answer for all addresses, as this process's default. GIO's own one can't be the default,
//! because it does not say of itself that it works here, and that is the whole of what is added.

#![allow(unsafe_code)]

use gio::{glib, glib::subclass::prelude::*, prelude::*};

/// Where GIO looks for whom to ask.
const EXTENSION_POINT: &str = "gio-proxy-resolver";
/// Before those of desktops and of the environment, which have 0 and less than 1000.
const PRIORITY: i32 = 1000;

mod imp {
    use super::*;

    #[derive(Debug, Default)]
    pub(in crate::guard) struct Resolver;

    #[glib::object_subclass]
    impl ObjectSubclass for Resolver {
        const NAME: &'static str = "KaigiProxyResolver";
        type Type = super::Resolver;
        type ParentType = gio::SimpleProxyResolver;
        type Interfaces = (gio::ProxyResolver,);
    }

    impl ObjectImpl for Resolver {}
}

glib::wrapper! {
    pub(in crate::guard) struct Resolver(ObjectSubclass<imp::Resolver>)
        @extends gio::SimpleProxyResolver, @implements gio::ProxyResolver;
}

// SAFETY: GSimpleProxyResolver is derivable: its header has the instance and class structures that these bindings know. Nothing of its class is overridden.
unsafe impl IsSubclassable<imp::Resolver> for gio::SimpleProxyResolver {}

// SAFETY: the table is that of the parent class when this is called, which answers; the one entry that it lacks is set to a function of its type.
unsafe impl IsImplementable<imp::Resolver> for gio::ProxyResolver {
    fn interface_init(interface: &mut glib::Interface<Self>) {
        interface.as_mut().is_supported = Some(is_supported);
    }
}

unsafe extern "C" fn is_supported(_: *mut gio::ffi::GProxyResolver) -> glib::ffi::gboolean {
    glib::ffi::GTRUE
}

/// From now on all connections of GIO in this process go by the proxy of that URL. Whether that is so.
pub(super) fn install(proxy: &str) -> bool {
    // GIO knows its extension points once it has looked at any.
    let _vfs = gio::Vfs::default();
    gio::IOExtensionPoint::implement(EXTENSION_POINT, Resolver::static_type(), "kaigi", PRIORITY);
    match gio::ProxyResolver::default().downcast::<Resolver>() {
        Ok(resolver) => {
            resolver.set_default_proxy(Some(proxy));
            true
        }
        Err(_) => false,
    }
}
