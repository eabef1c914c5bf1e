"""Compares manifests with the schemas of those who read them, and prints what is wrong: a line for each problem.

    manifests.py kubernetes VERSION... <MANIFESTS   objects of Kubernetes, of each of these versions of its API, and of KEDA
    manifests.py cloud-init SCHEMA <FILE            user data of cloud-init, by the schema that is in its package

Exit status 1 if there is a problem. Objects whose kind has no schema here are named on standard error.
"""

import json
import sys

import yaml

KEDA = "keda.sh/v1alpha1"


def beyond(given, known, path=""):
    """Yields the places of what a model does not have: it passes over keys that it does not know."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                yield f"{path}.{key} is not known"
            else:
                yield from beyond(value, known[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(known, list):
        for at, (one, other) in enumerate(zip(given, known)):
            yield from beyond(one, other, f"{path}[{at}]")


def keda_problems(manifest):
    """Yields what is wrong with an object of KEDA."""
    import pydantic
    from cloudcoil.models.keda import v1alpha1

    try:
        model = getattr(v1alpha1, manifest["kind"]).model_validate(manifest)
    except pydantic.ValidationError as error:
        yield from (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return
    yield from beyond(manifest, model.model_dump(mode="json", by_alias=True, exclude_unset=True))


def kubernetes_problems(manifest, version):
    """Yields what is wrong with an object of Kubernetes."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})"
    except kubernetes_validate.SchemaNotFoundError:
        print(f"no schema: {manifest['kind']}", file=sys.stderr)


def kubernetes(versions):
    """Yields what is wrong with the manifests on standard input."""
    for manifest in yaml.safe_load_all(sys.stdin):
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["apiVersion"] == KEDA:
            yield from (f"{name}: {problem}" for problem in keda_problems(manifest))
            continue
        for version in versions:
            yield from (f"{name}: {problem}" for problem in kubernetes_problems(manifest, version))


def cloud_init(schema):
    """Yields what is wrong with the user data on standard input."""
    import jsonschema

    text = sys.stdin.read()
    if not text.startswith("#cloud-config\n"):
        yield "the first line is not #cloud-config"
    with open(schema, encoding="utf-8") as file:
        validator = jsonschema.Draft4Validator(json.load(file))
    given = yaml.safe_load(text)
    yield from (f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(given))
    known = json.dumps(validator.schema)
    yield from (f"{key} is not known" for key in given if f'"{key}"' not in known)


def main(words):
    """Prints all problems."""
    problems = list(kubernetes(words[1:]) if words[0] == "kubernetes" else cloud_init(words[1]))
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
