//! Who puts `spec.active` back: Flux, Helm or Argo CD, where one of them owns the mirror and names the field.

use catamaran_api::mirror::RegistryMirror;
use kube::ResourceExt as _;
use serde_json::Value;

/// The field managers of tools that write a whole object again and again.
const MANAGERS: &[(&str, &str)] = &[
    ("kustomize-controller", "Flux"),
    ("helm-controller", "Flux"),
    ("helm", "Helm"),
    ("argocd-controller", "Argo CD"),
];

/// What to know of the owner of a mirror before `spec.active` is changed by hand; none for a mirror that nothing owns.
pub fn warning(mirror: &RegistryMirror) -> Option<String> {
    let (owner, advice) = owner(mirror)?;
    Some(if let Some(manager) = manager_of_active(mirror) {
        format!(
            "{owner} sets spec.active (field manager {manager}) and will put it back the next time it applies: {advice}"
        )
    } else {
        format!(
            "{owner} owns this mirror but does not set spec.active: the override stays. If its manifest names the field later, that wins"
        )
    })
}

/// The owner, and how to keep it from putting the field back.
fn owner(mirror: &RegistryMirror) -> Option<(String, String)> {
    let label = |name: &str| mirror.labels().get(name).map(String::as_str);
    let annotation = |name: &str| mirror.annotations().get(name).map(String::as_str);
    let flux = [
        ("kustomize.toolkit.fluxcd.io", "Kustomization", "kustomization"),
        ("helm.toolkit.fluxcd.io", "HelmRelease", "helmrelease"),
    ];
    let of_flux = flux.into_iter().find_map(|(group, kind, command)| {
        let name = label(&format!("{group}/name"))?;
        let namespace = label(&format!("{group}/namespace")).unwrap_or("flux-system");
        Some((
            format!("Flux ({kind} '{name}' in namespace '{namespace}')"),
            format!("change it in Git, or run `flux suspend {command} {name} -n {namespace}` first"),
        ))
    });
    let of_helm = || {
        let release = annotation("meta.helm.sh/release-name")?;
        let advice = "set it in the chart's values as well".to_owned();
        Some((format!("Helm (release '{release}')"), advice))
    };
    let of_argo = || {
        annotation("argocd.argoproj.io/tracking-id").or_else(|| label("argocd.argoproj.io/instance"))?;
        let advice = "change it in Git, or switch self-heal of the application off first".to_owned();
        Some(("Argo CD".to_owned(), advice))
    };
    of_flux.or_else(of_helm).or_else(of_argo)
}

/// The tool that has `spec.active` among the fields that it applies.
fn manager_of_active(mirror: &RegistryMirror) -> Option<&'static str> {
    let entries = mirror.metadata.managed_fields.iter().flatten();
    entries
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            fields.is_some_and(|fields: &Value| fields.pointer("/f:spec/f:active").is_some())
        })
        .find_map(|entry| {
            let manager = entry.manager.as_deref()?;
            MANAGERS
                .iter()
                .find(|(name, _)| *name == manager)
                .map(|(name, _)| *name)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirror(metadata: &Value) -> RegistryMirror {
        serde_json::from_value(json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror", "metadata": metadata,
            "spec": {"primary": {"registry": "a.example"}, "fallback": {"registry": "b.example"}},
        }))
        .unwrap()
    }

    fn applied_by(manager: &str, field: &str) -> Value {
        json!([{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {field: {}}}}])
    }

    #[test]
    fn owner_that_names_the_field_will_put_it_back() {
        let flux = json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux"});
        let owned = mirror(&json!({
            "name": "apps", "labels": flux, "managedFields": applied_by("kustomize-controller", "f:active"),
        }));
        let warned = warning(&owned).unwrap();
        assert!(
            warned.contains("Kustomization 'apps' in namespace 'flux') sets spec.active"),
            "{warned}"
        );
        assert!(warned.contains("flux suspend kustomization apps -n flux"), "{warned}");
        let silent = mirror(&json!({
            "name": "apps", "labels": flux, "managedFields": applied_by("kustomize-controller", "f:primary"),
        }));
        assert!(warning(&silent).unwrap().contains("does not set spec.active"));
    }

    #[test]
    fn helm_and_argo_are_known_by_their_marks_and_nobody_by_none() {
        let helm = mirror(&json!({
            "name": "apps", "annotations": {"meta.helm.sh/release-name": "shop"},
            "managedFields": applied_by("helm", "f:active"),
        }));
        assert!(
            warning(&helm)
                .unwrap()
                .starts_with("Helm (release 'shop') sets spec.active")
        );
        let argo = mirror(&json!({"name": "apps", "labels": {"argocd.argoproj.io/instance": "shop"}}));
        assert!(warning(&argo).unwrap().starts_with("Argo CD owns this mirror"));
        assert_eq!(warning(&mirror(&json!({"name": "apps"}))), None);
    }
}
