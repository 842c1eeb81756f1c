from rag_migration_pipeline_tests.orchestration.scene import *

def test_a(scene):
    r = scene.migrate()
    print(steps_started(r), failures(r))
    assert r.success
    r = scene.migrate()
    print(steps_started(r), failures(r))
    assert r.success

def test_empty(make_scene):
    s = make_scene(0)
    r = s.migrate()
    print(steps_started(r), failures(r))
    assert r.success
    assert s.is_materialized("target_collection")

def test_assets(scene):
    r = scene.materialize("source_manifest"); assert r.success
    k=scene.keys
    r = scene.materialize("loaded_ranges", start=k[0], stop=k[-1])
    print(steps_started(r), failures(r))
    assert r.success
    assert scene.materialized()==set(k)
    r = scene.materialize("target_collection"); assert r.success
